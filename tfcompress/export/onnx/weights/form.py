"""What a storage form is: how large a weight is in it, how it is encoded, and which nodes decode it."""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcompress.export.onnx.functions import DOMAIN, call
from tfcompress.export.onnx.weights.bits import GROUP

TENSOR, NODE = 14, 18
"""Bytes of a constant beside its values, and of a node, about: their names are short, their kinds not long."""

Parts = Mapping[str, np.ndarray]
"""What of a weight is stored, by what it is."""


@dataclasses.dataclass(frozen=True, eq=False)
class Weight:
    """A weight that is to be stored.

    Attributes:
        integers: int8.
    """

    integers: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """The integers in the order in which they are stored."""
        return np.ascontiguousarray(self.integers).reshape(-1)

    @functools.cached_property
    def histogram(self) -> dict[int, int]:
        """{integer: how often it is there}, in rising order."""
        counts = np.bincount(self.flat.view(np.uint8), minlength=256)
        return {value: int(counts[value % 256]) for value in range(-128, 128) if counts[value % 256]}

    @functools.cached_property
    def nonzeros(self) -> int:
        """How many integers aren't zero."""
        return self.flat.size - self.histogram.get(0, 0)

    @functools.cached_property
    def values(self) -> list[int]:
        """The distinct integers that aren't zero, in rising order."""
        return [value for value in self.histogram if value]

    @functools.cached_property
    def distances(self) -> np.ndarray:
        """How far each integer that isn't zero stands behind the one before it; the first behind the beginning.

        Others, that lead behind the end, fill up a `GROUP`.
        """
        places = np.flatnonzero(self.flat).astype(np.int32)
        behind = np.arange(-places.size % GROUP, dtype=np.int32) + self.flat.size
        return np.diff(np.append(places, behind), prepend=np.int32(-1))

    @functools.lru_cache(maxsize=8)  # noqa: B019 (lives as long as its weight)
    def steps(self, bits: int) -> int:
        """Return how many steps of at most 2^bits places lead over all distances."""
        return int(((self.distances - 1) >> bits).sum()) + self.distances.size


class Writer:
    """New constants and nodes of a file; constants that are equal are one.

    Args:
        taken: Names that are something else's.
    """

    def __init__(self, taken: set[str]) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._taken = taken
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._numbers = itertools.count()

    def constant(self, values: np.ndarray) -> str:
        """Add a constant, unless there is an equal one; return its name."""
        import onnx

        key = values.dtype.str, values.shape, values.tobytes()
        if key not in self._known:
            self._known[key] = self._fresh()
            self.constants.append(onnx.numpy_helper.from_array(values, self._known[key]))
        return self._known[key]

    def packed(self, data: bytes, data_type: int, shape: tuple[int, ...]) -> str:
        """Add a constant of a type that NumPy hasn't; return its name."""
        import onnx

        name = self._fresh()
        self.constants.append(onnx.TensorProto(name=name, data_type=data_type, dims=shape, raw_data=data))
        return name

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Add a node of ONNX' own; return its output, which gets a name if it has none."""
        import onnx

        output = output or self._fresh()
        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def decode(self, decoder: str, inputs: list[str], output: str = "", shape: tuple[int, ...] = ()) -> str:
        """Add a call of a decoder (see `decoders`); return its output, which gets a name if it has none."""
        output = output or self._fresh()
        self.nodes.append(call(decoder, inputs, output, shape))
        return output

    @property
    def decoders(self) -> set[str]:
        """The decoders that are called."""
        return {node.op_type for node in self.nodes if node.domain == DOMAIN}

    def _fresh(self) -> str:
        return next(made for number in self._numbers if (made := f"coded{number}") not in self._taken)


class StorageForm(abc.ABC):
    """A way to store the integers of a weight."""

    decoders: frozenset[str] = frozenset()
    """Which it calls."""
    opset: int = 0
    """The first that has what it needs; 0: any."""

    @abc.abstractmethod
    def nbytes(self, weight: Weight) -> int | None:
        """Return about how many bytes of a file the weight takes, the decoders not among them; None: it doesn't fit."""

    @abc.abstractmethod
    def encode(self, weight: Weight) -> Parts:
        """Return what is stored of a weight that fits."""

    @abc.abstractmethod
    def decode(self, parts: Parts, shape: tuple[int, ...]) -> np.ndarray:
        """Return the integers, as the file's own decoder makes them of what is stored."""

    @abc.abstractmethod
    def write(self, parts: Parts, shape: tuple[int, ...], writer: Writer, output: str) -> None:
        """Add the constants and nodes that make the tensor `output`."""

    @abc.abstractmethod
    def __str__(self) -> str:
        """Return what a reader is told."""


def called(shape: tuple[int, ...]) -> int:
    """Return about how many bytes a call of a decoder has that is told a shape."""
    return NODE + 9 + sum(2 + (size > 127) + (size > 16383) for size in shape)
