"""Weights that share few values: places in a table that is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.sharding import gathered
from tfcompress.core.transform import Encoded, WeightTransform, decoded, put
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import without_marks
from tfcompress.quantization.encoding import Table
from tfcompress.quantization.numerics.lookup import (
    looked_up,
    nearest_with_entries,
    straight_through,
    without_empty,
)

Tensor = Any

GRADIENTS = ("sum", "mean")
"""How the gradients of the weights that share an entry make that of the entry."""

REFILLED_EVERY = 64
"""Training steps after which entries that no weight is near are given to some."""


class Codebook(WeightTransform):
    """Gives each weight the nearest entry of a table, which is trained with the weights.

    The gradient passes straight through to the weights, and to each entry the sum or the mean of those of its weights.

    Args:
        count: Entries of a table, 2 to 256.
        axis: The axis of the weight along which tables differ; `None`: there is one table.
        tables: How many tables there are along it.
        gradient: One of `GRADIENTS`.
    """

    def __init__(self, count: int, *, axis: int | None = None, tables: int = 1, gradient: str = "sum"):
        self.count = int(count)
        self.axis = None if axis is None else int(axis)
        self.tables = int(tables)
        self.gradient = gradient

    def build(self, weight: keras.Variable, add_state: Callable[..., keras.Variable]) -> None:
        """Remember the weight's shape; subclasses create what the tables are made of."""
        self.shape = tuple(int(size) for size in weight.shape)

    def table(self) -> Tensor:
        """Return the entries of all tables in any order, float32, (tables, entries); differentiable."""
        raise NotImplementedError

    def start(self, values: np.ndarray) -> None:
        """Set the tables.

        Args:
            values: float32, of the shape that they have.
        """
        raise NotImplementedError

    def placed(self, rows: Tensor, entries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the place of an entry for each weight, the entries, and those at the places: what files store."""
        places, found = nearest_with_entries(rows, entries)
        return places, entries, found

    def apply(self, value: Tensor) -> Tensor:
        """Return each weight's entry."""
        return self._decoded(value, lambda rows, table: self.placed(rows, table)[::2])

    def apply_in_training(self, value: Tensor, loss_scale: Tensor | None = None) -> Tensor:
        """Return the entry that is nearest to each weight."""
        return self._decoded(value, nearest_with_entries)

    def _decoded(self, value: Tensor, found: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        rows = self.unfold(ops.cast(value, "float32"))
        table, _ = in_order(self.table())
        places, entries = found(ops.stop_gradient(rows), ops.stop_gradient(table))
        made = straight_through(rows, table, places, entries, mean=self.gradient == "mean")
        return ops.cast(self.fold(made), value.dtype)

    def encode(self, value: np.ndarray | Encoded) -> Table:
        """Return the table, and the place of each weight in it."""
        rows = self.unfold(ops.convert_to_tensor(decoded(value).astype(np.float32, copy=False)))
        places, entries, _ = self.placed(rows, in_order(self.table())[0])
        indices = np.asarray(gathered(self.fold(places))).astype(np.uint8)
        values = np.asarray(gathered(entries))
        return Table(indices, values[0] if self.axis is None else values, self.axis)

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Return values of the weight's shape with a row for each table, also before it is built."""
        return (values if self.axis is None else np.moveaxis(values, self.axis, 0)).reshape(self.tables, -1)

    def unfold(self, x: Tensor) -> Tensor:
        """Return a tensor of the weight's shape with a row for each table."""
        return ops.reshape(x if self.axis is None else ops.transpose(x, self._order), (self.tables, -1))

    def fold(self, x: Tensor) -> Tensor:
        """Return what `unfold` was called on."""
        if self.axis is None:
            return ops.reshape(x, self.shape)
        there = ops.reshape(x, [self.shape[axis] for axis in self._order])
        return ops.transpose(there, [self._order.index(axis) for axis in range(len(self.shape))])

    @property
    def _order(self) -> list[int]:
        others = [axis for axis in range(len(self.shape)) if axis != self.axis]
        return others if self.axis is None else [self.axis, *others]

    def _where(self) -> str:
        """Return in words what has a table of its own, to stand behind the number of values."""
        if self.axis is None:
            return ""
        block = self.shape[self.axis] // self.tables
        return " per channel" if block == 1 else f" per {block} channels"

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"count": self.count, "axis": self.axis, "tables": self.tables, "gradient": self.gradient}


@keras.saving.register_keras_serializable(package="tfcompress")
class Clusters(Codebook):
    """A table of any values. What layers see, and files store, are exactly so many values as it has entries.

    Args:
        count: Entries of a table, 2 to 256.
        axis: The axis of the weight along which tables differ; `None`: there is one table.
        tables: How many tables there are along it.
        gradient: One of `GRADIENTS`.
        zero: Whether one entry is always 0.
    """

    group = "clusters"

    def __init__(self, count: int, *, zero: bool = False, **how: Any):
        super().__init__(count, **how)
        self.zero = bool(zero)

    def build(self, weight: keras.Variable, add_state: Callable[..., keras.Variable]) -> None:
        """Create the entries, which are trained, and what is added to them where one has no weight."""
        super().build(weight, add_state)
        shape = (self.tables, self.count - self.zero)
        self.entries = add_state("entries", shape, "float32", "zeros", trainable=True)
        self.shift = add_state("shift", shape, "float32", "zeros")

    def start(self, values: np.ndarray) -> None:
        """Set the entries, without the 0."""
        put(self.entries, values)
        put(self.shift, np.zeros_like(values))

    def table(self) -> Tensor:
        """Return the entries, the 0 behind the others."""
        entries = ops.convert_to_tensor(self.entries.value) + ops.convert_to_tensor(self.shift.value)
        return ops.pad(entries, ((0, 0), (0, 1))) if self.zero else entries

    def placed(self, rows: Tensor, entries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return places, entries and those at the places, so that each entry has a weight."""
        return without_empty(rows, entries)

    @classmethod
    def update(cls, members: Sequence[tuple[WeightTransform, Callable[[], Tensor]]], step: Tensor) -> None:
        """Give entries that no weight is near to some, every few steps."""
        codebooks = [(member, value) for member, value in members if isinstance(member, Clusters)]
        shifts = [ops.convert_to_tensor(codebook.shift.value) for codebook, _ in codebooks]
        due = ops.equal(step % REFILLED_EVERY, 0)
        # Assigned outside of the condition, in which a mirrored variable can't be.
        found = ops.cond(due, lambda: [codebook.refilled(value()) for codebook, value in codebooks], lambda: shifts)
        for (codebook, _), shift in zip(codebooks, found, strict=True):
            codebook.shift.assign(shift)

    def refilled(self, value: Tensor) -> Tensor:
        """Return the shift with which each entry has a weight."""
        table = ops.stop_gradient(self.table())
        entries, order = in_order(table)
        rows = self.unfold(ops.cast(value, "float32"))
        _, filled, _ = self.placed(ops.stop_gradient(rows), entries)
        wanted = looked_up(filled, ops.cast(ops.argsort(order, axis=1), "int32"))
        changed = (wanted - table)[:, : self.count - self.zero]
        return ops.convert_to_tensor(self.shift.value) + changed

    def brief(self) -> str:
        """Return how many values there are.

        >>> Clusters(16).brief()
        '16 values'
        """
        return f"{self.count} values{self._where()}"

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "zero": self.zero}


def in_order(table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the entries of each row in ascending order, and their places before."""
    order = ops.cast(ops.argsort(ops.stop_gradient(table), axis=1), "int32")
    return looked_up(table, order), order


def codebook_of(layer: Any, position: int) -> Codebook | None:
    """Return the codebook of a weight.

    Args:
        layer: A layer, or a wrapper of this package around one.
        position: Of the weight in the innermost layer's `weights`.

    Returns:
        `None` if it has none.
    """
    layer = without_marks(layer)
    chain = layer.chain(position) if isinstance(layer, CompressedLayer) else []
    return next((transform for transform in chain if isinstance(transform, Codebook)), None)
