"""What a model is called with: symbolic inputs, sizes, and samples to try it on."""
