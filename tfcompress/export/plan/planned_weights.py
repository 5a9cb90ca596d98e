"""Which constant of a converted graph is which planned weight: found by its values, which are decoded bit by bit."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfcompress.quantization.encoding import Affine, encode_bias, pieces

PROBES = 64
"""How many values are compared before all are."""

LEAST_VALUES = 4
"""How many values must share a scale to be known by it: one alone is a multiple of any other."""

SMALLEST_STORED = 64
"""Values from which a quarter of the bytes pays for the two nodes that unpack integers for a float kernel of ONNX."""

FACTOR_TOLERANCE = 2.0**-19
"""Of a channel's largest value: what float32 leaves of a weight that a converter has multiplied by a factor."""


@dataclasses.dataclass(frozen=True)
class PlannedWeight:
    """A weight that a file stores as integers.

    Attributes:
        layer: The layer of the quantized model.
        name: Of the weight in its layer, such as "kernel".
        encoding: Its integers and scales, in the layer's layout.
    """

    layer: str
    name: str
    encoding: Affine


class _Vector(NamedTuple):
    """Values of a planned weight that share a scale."""

    integers: np.ndarray
    scale: np.float32
    bits: int


class PlannedWeights:
    """The weights of a model that a file stores as integers, to be found among the constants of a converted graph.

    Converters transpose and reshape weights; they cut them into parts, join and reorder these (the gates of recurrent
    layers, groups of convolutions), and multiply them by what is behind. `find` sees through that.

    Args:
        weights: The planned weights.

    Attributes:
        attached: `digest` of the integers of each constant that was found, as the file is to have them.
        stored: {digest: {type in which the file stores these integers, "int4": why in no smaller one}}, as noted by
            what writes the file.
        rounding: The layers whose inputs, floats in the model, a kernel of the file rounds at run time; noted alike.

    Example:

    >>> kernel = Affine.symmetric(np.array([[1.0, -4.0], [0.5, 2.0]], "float32"), [1.0, 4.0], bits=8, axis=(1,))
    >>> planned = PlannedWeights([PlannedWeight("dense", "kernel", kernel)])
    >>> planned.find(kernel.decode().T).integers.tolist()
    [[127, 64], [-127, 64]]
    >>> planned.find(np.ones((2, 2), "float32")) is None
    True
    """

    def __init__(self, weights: Iterable[PlannedWeight] = ()):
        self.weights = tuple(weights)
        self.attached: set[str] = set()
        self.stored: dict[str, dict[str, str]] = {}
        self.rounding: set[str] = set()
        self._by_magnitudes: dict[str, set[str]] = {}
        self._by_size: dict[int, list[Affine]] = {}
        for one in self.weights:
            self._by_size.setdefault(one.encoding.integers.size, []).append(one.encoding)
        self._by_ends: dict[int, dict[tuple[float, float], list[Affine]]] = {}
        self._vectors: dict[int, dict[int, _Vector]] = {}

    def __bool__(self) -> bool:
        return bool(self.weights)

    @functools.cached_property
    def layers(self) -> frozenset[str]:
        """The names of the layers that have them."""
        return frozenset(one.layer for one in self.weights)

    def find(self, constant: np.ndarray, axes: Sequence[int] | None = None) -> Affine | None:
        """Return a constant's encoding in the constant's own layout; `None` if it is no planned weight.

        Args:
            constant: float32.
            axes: Those along which scales may differ; `None`: any.
        """
        if constant.dtype != np.float32 or not constant.size or not self.weights:
            return None
        for search in (self._whole, self._multiplied, self._cut):
            for found in search(constant):
                if axes is None or set(found.axis) <= {axis % constant.ndim for axis in axes}:
                    self.attached.add(digest(found.integers))
                    return found
        return None

    def note_rounding(self, found: Affine) -> None:
        """Note that the kernel which has a constant's integers rounds its input at run time.

        Args:
            found: From `find`, a matrix.
        """
        if not self._by_magnitudes:
            for one in self.weights:
                self._by_magnitudes.setdefault(digest(np.abs(one.encoding.integers)), set()).add(one.layer)
        for laid_out in (found.integers, found.integers.T):
            self.rounding |= self._by_magnitudes.get(digest(np.abs(laid_out)), set())

    def with_bias(self, found: Affine, bias: np.ndarray, input_scale: Any, axis: int) -> tuple[Affine, Affine]:
        """Return a kernel's weights and its bias as integers: `encode_bias`, which may need coarser weights.

        Args:
            found: From `find`.
            bias: float32, a value for each channel.
            input_scale: Of the kernel's input.
            axis: The constant's axis of output channels.
        """
        weights, units = encode_bias(bias, input_scale, found, axis)
        if weights is not found:
            self.attached.add(digest(weights.integers))
        return weights, units

    def _with_ends_of(self, constant: np.ndarray) -> list[Affine]:
        """Return the planned weights of a constant's size whose least and largest values are the constant's."""
        if constant.size not in self._by_ends:
            known = self._by_ends[constant.size] = {}
            for encoding in self._by_size.get(constant.size, ()):
                known.setdefault(_ends(encoding), []).append(encoding)
        return self._by_ends[constant.size].get((float(constant.min()), float(constant.max())), [])

    def _whole(self, constant: np.ndarray) -> Iterator[Affine]:
        """Yield the planned weights that are the constant, transposed and reshaped."""
        places = np.arange(PROBES) * (constant.size - 1) // (PROBES - 1)
        wanted = constant.reshape(-1)[places]
        for plain, order in _laid_out(self._with_ends_of(constant), constant):
            at = np.unravel_index(places, [plain.shape[axis] for axis in order])
            there = tuple(at[order.index(axis)] for axis in range(len(order)))
            scale = plain.scale_at(there)
            if np.array_equal(np.multiply(plain.integers[there], scale, dtype=np.float32), wanted):
                found = plain.transpose(order).reshape(constant.shape)
                if _equal(found, constant):
                    yield found

    def _multiplied(self, constant: np.ndarray) -> Iterator[Affine]:
        """Yield the planned weights that are the constant, but for a factor for each place along an axis."""
        sizes = [size for size in constant.shape if size != 1]
        if not np.isfinite(constant).all():
            return
        for plain, order in _laid_out(self._by_size.get(constant.size, ()), constant):
            moved = plain.transpose(order)
            if list(moved.shape) != sizes:
                continue
            moved = moved.reshape(constant.shape)
            whole = [axis for axis in moved.axis if moved.scale.shape[axis] == moved.shape[axis]]  # no blocks
            for axis in whole or range(constant.ndim):
                first = constant.take([0], axis)  # most are seen to be others from the first place
                if first.size < LEAST_VALUES or _with_factor(moved.take([0], axis), first, axis) is None:
                    continue
                found = _with_factor(moved, constant, axis)
                if found is not None:
                    yield found

    def _cut(self, constant: np.ndarray) -> Iterator[Affine]:
        """Yield the constant as vectors that are those of planned weights, each with its own scale."""
        axes = range(constant.ndim)
        for kept in [*((axis,) for axis in axes), *itertools.combinations(axes, 2)]:
            sizes = [constant.shape[axis] for axis in kept]
            length = constant.size // math.prod(sizes)
            known = self._vectors_of(length) if length >= LEAST_VALUES else {}
            if not known:
                continue
            others = [axis for axis in axes if axis not in kept]
            integers = np.zeros((math.prod(sizes), length), np.int8)
            scale = np.ones(len(integers), np.float32)
            bits = 8
            for at, row in enumerate(_rows(constant, [*kept, *others], len(kept))):
                if row.any():
                    vector = known.get(hash(row.tobytes()))
                    if vector is None:
                        break
                    integers[at], scale[at], bits = vector.integers.reshape(-1), vector.scale, vector.bits
            else:
                inverse = np.argsort([*kept, *others])
                whole = integers.reshape([*sizes, *(constant.shape[axis] for axis in others)]).transpose(inverse)
                found = Affine(whole, scale.reshape([*sizes, *[1] * len(others)]).transpose(inverse), bits=bits)
                if _equal(found, constant):
                    yield found

    def _vectors_of(self, length: int) -> dict[int, _Vector]:
        """Return {hash of the values: vector}, of those of a length that share a scale in planned weights."""
        if length not in self._vectors:
            found: dict[int, _Vector] = {}
            for one in self.weights:
                encoding = one.encoding
                if encoding.block is not None:
                    continue
                for kept in [encoding.axis] if encoding.axis else [(axis,) for axis in range(len(encoding.shape))]:
                    if math.prod(encoding.shape[axis] for axis in kept) * length == encoding.integers.size:
                        found |= _vectors(encoding, kept)
            self._vectors[length] = found
        return self._vectors[length]


def digest(integers: np.ndarray) -> str:
    """Return a short text that other integers don't have, whatever their shape."""
    return hashlib.blake2b(np.ascontiguousarray(integers).data, digest_size=16).hexdigest()


NO_WEIGHTS = PlannedWeights()
"""Of a model whose weights are floats in the file."""


def _laid_out(encodings: Iterable[Affine], constant: np.ndarray) -> Iterator[tuple[Affine, tuple[int, ...]]]:
    """Yield encodings of a constant's size, axes of size 1 dropped, and the orders of their axes, likely ones first."""
    sizes = [size for size in constant.shape if size != 1] or [1]
    for encoding in encodings:
        plain = encoding.reshape([size for size in encoding.shape if size != 1] or [1])
        orders = list(itertools.permutations(range(len(plain.shape))))
        for order in sorted(orders, key=lambda order: [plain.shape[axis] for axis in order] != sizes):
            yield plain, order


def _ends(encoding: Affine) -> tuple[float, float]:
    """Return the least and the largest value."""
    least, most = np.inf, -np.inf
    for _, values in encoding.decode_in_pieces():
        least, most = min(least, float(values.min())), max(most, float(values.max()))
    return least, most


def _vectors(encoding: Affine, kept: Sequence[int]) -> dict[int, _Vector]:
    """Return {hash of the values: vector} of the vectors that are left where some axes are fixed."""
    found: dict[int, _Vector] = {}
    others = [axis for axis in range(len(encoding.shape)) if axis not in kept]
    sizes = [encoding.shape[axis] for axis in kept]
    scales = np.broadcast_to(
        encoding.scale, [size if axis in kept else 1 for axis, size in enumerate(encoding.shape)]
    ).reshape(-1)
    for order in itertools.permutations(others):
        moved = encoding.integers.transpose([*kept, *order])
        rows = _rows(encoding.integers, [*kept, *order], len(kept))
        for place, row, scale in zip(np.ndindex(*sizes), rows, scales, strict=True):
            values = np.multiply(row, scale, dtype=np.float32)
            found.setdefault(hash(values.tobytes()), _Vector(moved[place], scale, encoding.bits))
    return found


def _rows(values: np.ndarray, order: Sequence[int], kept: int) -> Iterator[np.ndarray]:
    """Yield the vector at each place along the first axes of another order; few are copied at a time."""
    moved = values.transpose(order)
    length = math.prod(moved.shape[kept:])
    for piece in pieces(moved.shape):
        yield from np.ascontiguousarray(moved[piece]).reshape(-1, length)


def _equal(found: Affine, constant: np.ndarray) -> bool:
    """Return whether an encoding gives a constant bit by bit."""
    return all(np.array_equal(values, constant[piece]) for piece, values in found.decode_in_pieces())


def _with_factor(encoding: Affine, constant: np.ndarray, axis: int) -> Affine | None:
    """Return an encoding times what a constant is larger by, for each place along an axis; `None`: it is another."""
    order = [axis, *(place for place in range(constant.ndim) if place != axis)]
    moved = constant.transpose(order)
    factors = []
    for piece, values in encoding.transpose(order).decode_in_pieces():
        mine, theirs = (x.reshape(len(values), -1) for x in (values, moved[piece]))
        largest = np.abs(mine).argmax(axis=1)[:, None]
        divisor, dividend = (np.take_along_axis(x, largest, 1).astype(np.float64) for x in (mine, theirs))
        factor = np.where(divisor == 0, 1.0, dividend / np.where(divisor == 0, 1.0, divisor))
        room = FACTOR_TOLERANCE * np.abs(theirs).max(axis=1, keepdims=True)
        if not factor.all() or (np.abs(mine * factor - theirs) > room).any():
            return None
        factors.append(factor)
    sizes = [-1 if place == axis else 1 for place in range(constant.ndim)]
    return encoding.scaled(np.concatenate(factors).reshape(sizes))
