"""From a Keras model to the one traced, float32, inference function that both formats are made of."""
