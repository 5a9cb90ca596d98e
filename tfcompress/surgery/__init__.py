"""Opening any model into one flat graph, choosing layers in it, and making it again with some replaced."""

from tfcompress.surgery.choosing import LayerChoice, kernel_positions
from tfcompress.surgery.opening import check_built, rebuild
from tfcompress.surgery.stripping import strip

__all__ = ["LayerChoice", "check_built", "kernel_positions", "rebuild", "strip"]
