"""A constant as TFLite stores it sparsely: the numbers that aren't zero, and where they stand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

BLOCKS = (1, 4, 16)
"""Numbers of a row that are stored together: one; and those that fully connected kernels take, of float and int8."""


@dataclasses.dataclass(frozen=True)
class Sparse:
    """The stored form of a constant: rows along its last dimension, of which blocks that are all zero are left out.

    Attributes:
        values: Flat, block after block.
        segments: Where each row's blocks begin; one more than there are rows.
        indices: The place of each block in its row, counted in blocks.
        shape: Of the constant.
        block: Numbers in a block.
    """

    values: np.ndarray
    segments: np.ndarray
    indices: np.ndarray
    shape: tuple[int, ...]
    block: int

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        return int(self.values.nbytes + self.segments.nbytes + self.indices.nbytes)

    @property
    def share(self) -> float:
        """Part of the constant's numbers that are stored."""
        return float(self.values.size / np.prod(self.shape))


def encode(values: np.ndarray, block: int = 1) -> Sparse | None:
    """Return the sparse form of a constant; `None` where its rows aren't made of whole blocks.

    Args:
        values: Of one dimension or more.
        block: Numbers of a row that are kept together if one of them isn't zero.

    Example:

    >>> form = encode(np.array([[0, 0, 5, 6], [0, 0, 0, 0]], "int8"), block=2)
    >>> form.values.tolist(), form.segments.tolist(), form.indices.tolist(), form.nbytes
    ([5, 6], [0, 1, 1], [1], 6)
    """
    if values.ndim == 0 or values.size == 0 or values.shape[-1] % block:
        return None
    rows = values.reshape(-1, values.shape[-1] // block, block)
    row, place = np.nonzero((rows != 0).any(axis=-1))
    segments = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(rows)))])
    return Sparse(rows[row, place].reshape(-1), _narrow(segments), _narrow(place), values.shape, block)


def parameters(schema: Any, form: Sparse) -> Any:
    """Return what the schema's tensor says about its sparse form, in object form."""
    rank = len(form.shape)
    made = schema.SparsityParametersT()
    made.dimMetadata = [_dense(schema, size) for size in form.shape[:-1]]
    made.dimMetadata.append(_rows(schema, form))
    made.traversalOrder = np.arange(rank + (form.block > 1), dtype=np.int32)
    if form.block > 1:
        made.blockMap = np.array([rank - 1], np.int32)
        made.dimMetadata.append(_dense(schema, form.block))
    return made


def densify(stored: np.ndarray, sparsity: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the constant that a sparse form of any kind stands for.

    The form is a tree: level after level one of the dimensions, or the inside of its blocks, in the traversal order;
    a dense level has all its places, a sparse one those that it lists.

    Args:
        stored: The numbers, flat.
        sparsity: The schema's object, as written by any tool.
        shape: Of the constant.

    Example:

    >>> from ai_edge_litert import schema_py_generated as schema
    >>> form = encode(np.array([[0, 0, 5, 6], [0, 7, 0, 0]]), block=2)
    >>> densify(form.values, parameters(schema, form), form.shape).tolist()
    [[0, 0, 5, 6], [0, 7, 0, 0]]
    """
    rank, mapped = len(shape), [int(i) for i in (() if sparsity.blockMap is None else sparsity.blockMap)]
    inside = {d: int(sparsity.dimMetadata[rank + i].denseSize) for i, d in enumerate(mapped)}
    node, places = np.zeros(1, np.int64), np.zeros((rank, 1), np.int64)
    for level, dimension in zip(sparsity.dimMetadata, map(int, sparsity.traversalOrder), strict=True):
        if level.arraySegments is None:  # dense
            size = int(level.denseSize)
            parent = np.repeat(np.arange(len(node)), size)
            place = np.tile(np.arange(size), len(node))
            node = node[parent] * size + place
        else:
            segments = np.asarray(level.arraySegments.values, np.int64)
            counts = np.diff(segments)[node]
            parent = np.repeat(np.arange(len(node)), counts)
            first = np.repeat(np.cumsum(counts) - counts, counts)
            node = np.repeat(segments[node], counts) + np.arange(len(parent)) - first
            place = np.asarray(level.arrayIndices.values, np.int64)[node]
        places = places[:, parent]
        if dimension < rank:
            places[dimension] += place * inside.get(dimension, 1)
        else:
            places[mapped[dimension - rank]] += place
    full = np.zeros(shape, stored.dtype)
    full[tuple(places)] = stored[node]
    return full


def _dense(schema: Any, size: int) -> Any:
    dimension = schema.DimensionMetadataT()
    dimension.format, dimension.denseSize = schema.DimensionType.DENSE, int(size)
    return dimension


def _rows(schema: Any, form: Sparse) -> Any:
    dimension = schema.DimensionMetadataT()
    dimension.format = schema.DimensionType.SPARSE_CSR
    dimension.arraySegmentsType, dimension.arraySegments = _vector(schema, form.segments)
    dimension.arrayIndicesType, dimension.arrayIndices = _vector(schema, form.indices)
    return dimension


def _vector(schema: Any, numbers: np.ndarray) -> tuple[int, Any]:
    name = {1: "Uint8Vector", 2: "Uint16Vector", 4: "Int32Vector"}[numbers.itemsize]
    vector = getattr(schema, f"{name}T")()
    vector.values = numbers
    return getattr(schema.SparseIndexVector, name), vector


def _narrow(numbers: np.ndarray) -> np.ndarray:
    """Return indices in as few bytes as hold them; TFLite reads one, two and four."""
    most = int(numbers.max(initial=0))
    return numbers.astype(np.uint8 if most < 2**8 else np.uint16 if most < 2**16 else np.int32)
