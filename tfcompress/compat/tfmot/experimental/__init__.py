"""tfmot's experimental names."""

from tfcompress.compat.tfmot.experimental import combine

__all__ = ["combine"]
