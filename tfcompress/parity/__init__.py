"""Whether a file computes what its Keras model does: proof, verification, layer by layer."""
