"""Load a model from any file that Keras wrote."""

from tfcompress.loading.loader import load

__all__ = ["load"]
