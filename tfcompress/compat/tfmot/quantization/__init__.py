"""tfmot's names for quantization."""

from tfcompress.compat.tfmot.quantization import keras

__all__ = ["keras"]
