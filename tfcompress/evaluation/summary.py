"""What became of each layer: shape, sparsity, distinct values, bytes, and whether it is compressed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.layers import Layer

from tfcompress.passthrough import PassThrough
from tfcompress.surgery import kernel_positions
from tfcompress.transform import read
from tfcompress.wrapper import CompressedLayer, inner_weights


@dataclasses.dataclass(frozen=True)
class WeightRow:
    """One kernel, or a layer without one (`weight` is then empty and the figures are 0)."""

    layer: str
    kind: str
    weight: str
    shape: tuple[int, ...]
    zeros: int
    distinct: int
    bits: int
    status: str

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape)) if self.weight else 0

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return self.zeros / self.size if self.size else 0.0

    @property
    def nbytes(self) -> int:
        """Bytes, stored densely."""
        return (self.size * self.bits + 7) // 8


@dataclasses.dataclass(frozen=True)
class Summary:
    """All layers of a model, one row per kernel; `print` shows the table.

    Attributes:
        name: The model's name.
        rows: One row for each kernel, and one for each layer without any.
        parameters: Number of all weights, biases and statistics included.
    """

    name: str
    rows: tuple[WeightRow, ...]
    parameters: int

    def __str__(self) -> str:
        return self.table()

    @property
    def sparsity(self) -> float:
        """Share of zeros in all kernels."""
        return sum(row.zeros for row in self.rows) / max(sum(row.size for row in self.rows), 1)

    def table(self, width: int = 120) -> str:
        """Return the table as text, at most `width` columns wide."""
        import io

        from rich import box
        from rich.console import Console
        from rich.table import Table

        title = f"{self.name}: {self.parameters:,} parameters, kernels {self.sparsity:.1%} zero"
        table = Table(title=title, box=box.SIMPLE)
        for heading in ("layer", "class", "kernel", "shape"):
            table.add_column(heading, no_wrap=heading != "layer", overflow="fold")
        for heading in ("zeros", "distinct", "bytes"):
            table.add_column(heading, justify="right")
        table.add_column("status", no_wrap=True)
        for row in self.rows:
            figures = (f"{row.sparsity:.1%}", f"{row.distinct:,}", f"{row.nbytes:,}")
            table.add_row(
                row.layer,
                row.kind,
                row.weight,
                "x".join(map(str, row.shape)) if row.weight else "",
                *(figures if row.weight else ("", "", "")),
                row.status,
            )
        console = Console(file=io.StringIO(), width=width, record=True)
        console.print(table)
        return console.export_text()


def summary(model: keras.Model) -> Summary:
    """Return what became of each layer of a model.

    Args:
        model: A built Keras model, wrapped or plain.

    Returns:
        One row per kernel with its shape, zeros, distinct values, bits and bytes as the layer sees it, and
        for every layer whether it was pruned, left as it is, or has nothing to compress.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it isn't built.

    Example:

    >>> import keras, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> tfc.summary(tfc.prune_once(model, 0.75)).rows[0].zeros
    24
    """
    from tfcompress.surgery import check_built

    check_built(model)
    rows: list[WeightRow] = []
    for layer in _leaves(model):
        rows += _rows(layer)
    return Summary(model.name, tuple(rows), model.count_params())


def sparsity(model: keras.Model, per_layer: bool = False) -> float | dict[str, float]:
    """Return the share of zeros in the kernels of a model, as its layers see them.

    Args:
        model: A built Keras model, wrapped or plain.
        per_layer: Whether to return it for each kernel by itself, by "layer/kernel".

    Returns:
        A number in [0, 1], or a dict of such numbers.

    Example:

    >>> import keras, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> tfc.sparsity(tfc.prune_once(model, 0.5), per_layer=True)
    {'dense/kernel': 0.5}
    """
    shown = summary(model)
    if not per_layer:
        return shown.sparsity
    return {f"{row.layer}/{row.weight}": row.sparsity for row in shown.rows if row.weight}


def _leaves(layer: Layer) -> Iterator[Layer]:
    """Yield the layers of a model that are no models themselves, each once."""
    seen: set[int] = set()
    waiting = list(layer._layers)
    while waiting:
        part = waiting.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, keras.Model) or (part._layers and not kernel_positions(part)):
            waiting = [*part._layers, *waiting]
        elif not isinstance(part, keras.layers.InputLayer):
            yield part


def _rows(layer: Layer) -> list[WeightRow]:
    inner = layer.innermost if isinstance(layer, PassThrough) else layer
    kind = type(inner).__name__
    positions = kernel_positions(layer)
    if not positions:
        status = "no kernel" if layer.weights else "no weights"
        return [WeightRow(layer.name, kind, "", (), 0, 0, 0, status)]
    weights = inner_weights(layer)
    names = _distinct_names([weights[position] for position in positions])
    wrapped = isinstance(layer, CompressedLayer)
    seen: dict[int, Any] = layer.transformed() if wrapped else {}
    rows = []
    for position, label in zip(positions, names, strict=True):
        value = ops.convert_to_numpy(seen[position]) if position in seen else read(weights[position])
        done = [type(t).__name__.lower() for t in layer.chain(position)] if wrapped else []
        status = ", ".join(_done.get(name, name) for name in done) or "as it is"
        rows.append(
            WeightRow(
                layer.name,
                kind,
                label,
                tuple(value.shape),
                int(value.size - np.count_nonzero(value)),
                len(np.unique(value)),
                8 * value.dtype.itemsize,
                status,
            )
        )
    return rows


def _distinct_names(weights: list[keras.Variable]) -> list[str]:
    """Return the names of weights, with as much of their paths as tells them apart."""
    for parts in range(1, 12):
        names = ["/".join(weight.path.split("/")[-parts:]) for weight in weights]
        if len(set(names)) == len(names):
            return names
    return [f"{weight.name}_{index}" for index, weight in enumerate(weights)]


_done = {"mask": "pruned"}
