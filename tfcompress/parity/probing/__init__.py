"""A model and its file side by side: which tensors are the same, and how far apart they are."""
