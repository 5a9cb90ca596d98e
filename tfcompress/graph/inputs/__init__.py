"""What a model is called with: symbolic inputs, and the shapes and dtypes that a user declares."""
