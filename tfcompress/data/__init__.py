"""Data of any kind, as `fit` takes it, for models and files alike."""
