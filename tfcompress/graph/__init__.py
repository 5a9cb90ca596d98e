"""Opening any model into one flat graph, choosing layers in it, and making it again with some replaced."""

from tfcompress.graph.flatten import check_built, rebuild
from tfcompress.graph.selectors import LayerChoice, kernel_positions
from tfcompress.graph.strip import strip

__all__ = ["LayerChoice", "check_built", "kernel_positions", "rebuild", "strip"]
