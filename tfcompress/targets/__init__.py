"""What files are for: the machines, each described as data, that say what a file may be.

`names()` are those of the package, `get("microcontroller")` is one of them, `get("mine.yaml")` one of your own.
"""

from tfcompress.targets.library import get, names
from tfcompress.targets.operators import OperatorSet
from tfcompress.targets.target import Target

__all__ = ["OperatorSet", "Target", "get", "names"]
