"""Taking pruned channels out of a model: which can go, what they leave behind, and the smaller model."""

from tfcompress.pruning.shrinking.shrink import ShrinkReport, shrink, shrink_report

__all__ = ["ShrinkReport", "shrink", "shrink_report"]
