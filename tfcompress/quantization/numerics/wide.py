"""The widest floats of Keras' backend."""

from __future__ import annotations

import keras

WIDE = "float64" if keras.backend.backend() == "tensorflow" else "float32"
"""JAX has none of 64 bits unless it is told to; there nothing is computed to the last bit as runtimes do."""
