"""Removing channels that do nothing: a smaller dense model with the same outputs."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfcompress.channels.cutting import cut
from tfcompress.core.out_of_memory import pass_on_full, says_memory
from tfcompress.core.passthrough import innermost
from tfcompress.graph import check_built, strip
from tfcompress.graph.keras_quantized import check_floats
from tfcompress.graph.openable import why_whole
from tfcompress.graph.sample_inputs.samples import random_inputs
from tfcompress.pruning.shrinking.removable_channels import Plan, plan
from tfcompress.quantization.quantize import is_quantized


@dataclasses.dataclass(frozen=True)
class ShrinkRow:
    """The outcome for one group of channels, which can only be removed together.

    Attributes:
        group: The group's name, that of its first layer.
        kind: "channel", "attention_head" or "attention_width".
        producers: The layers whose outputs they are.
        channels: How many there are.
        removable: How many could be removed without a change of the model's outputs.
        removed: How many are; one stays.
        reason: Why the others aren't; `None` if there are none.
    """

    group: str
    kind: str
    producers: tuple[str, ...]
    channels: int
    removable: int
    removed: int
    reason: str | None


@dataclasses.dataclass(frozen=True)
class ShrinkReport:
    """What `tfcompress.shrink` removes from a model; `print` shows the table.

    Attributes:
        name: The model's name.
        rows: One for each group of channels.
        parameters_before: Number of the model's parameters.
        parameters_after: That of the smaller model's.
    """

    name: str
    rows: tuple[ShrinkRow, ...]
    parameters_before: int
    parameters_after: int

    def __str__(self) -> str:
        return self.table()

    @property
    def removed(self) -> int:
        """Number of channels that are removed."""
        return sum(row.removed for row in self.rows)

    def table(self, width: int = 120) -> str:
        """Return the table as text, at most `width` columns wide."""
        import io

        from rich import box
        from rich.console import Console
        from rich.table import Table

        title = (
            f"{self.name}: {self.parameters_before:,} parameters, {self.parameters_after:,} without removed channels"
        )
        table = Table(title=title, box=box.SIMPLE)
        for heading in ("group", "kind"):
            table.add_column(heading, no_wrap=heading == "kind", overflow="fold")
        for heading in ("channels", "removable", "removed"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("why not more", overflow="fold")
        for row in self.rows:
            figures = (row.channels, row.removable, row.removed)
            others = len(row.producers) - 1
            label = f"{row.group} (+{others})" if others > 0 else row.group
            table.add_row(label, row.kind, *(f"{figure:,}" for figure in figures), row.reason or "")
        console = Console(file=io.StringIO(), width=width, record=True)
        console.print(table)
        return console.export_text()


@says_memory
def shrink(model: keras.Model) -> keras.Model:
    """Return a smaller model without the channels that pruning has made useless; its outputs are the same.

    A channel (of a convolution, a dense layer, ...; a head of an attention, or one of the numbers that its heads
    work with) is removed, with what belongs to it in all layers that it goes through, if nothing reads it with weights
    other than zero, if it is zero wherever it is read, or if it is a constant that can become part of a bias. Which
    channels depend on each other is found in the model's graph; what isn't understood stays as it is.
    `tfcompress.shrink_report` tells the status of each group, and why.

    Args:
        model: A built Keras model of any kind, pruned with `granularity="channel"` or otherwise; wrapped or stripped.
            It is not changed.

    Returns:
        A functional model of plain layers with the same names of inputs, outputs and layers, not compiled. If nothing
        can be removed, a copy, with a warning.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model isn't built, can't be opened, or is quantized.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(2, name="b")])
    >>> kernel = np.asarray(model.get_layer("b").kernel)
    >>> model.get_layer("b").kernel.assign(kernel * (np.arange(8) % 2)[:, None])  # reads every other channel
    <...>
    >>> tfc.shrink(model).get_layer("a").units
    4
    """
    flat = _plain(model)
    found = plan(flat)
    if not found.removed:
        warnings.warn(
            f"Expected a model with channels that nothing depends on. Received: {model.name!r}, in which no channel "
            "is wholly zero, so that its copy is as large as it is. Prune it with "
            'tfcompress.PruneConfig(..., granularity="channel"); `print(tfcompress.shrink_report(model))` '
            "says for each layer why its channels can't be removed.",
            stacklevel=3,
        )
        return flat
    smaller = cut(flat, found.analysis, found.removed, found.offsets)
    _check_equal(flat, smaller)
    return smaller


def shrink_report(model: keras.Model) -> ShrinkReport:
    """Return what `tfcompress.shrink` removes from a model, and why not more.

    Args:
        model: A built Keras model, as for `tfcompress.shrink`.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: As `tfcompress.shrink`.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(2, name="b")])
    >>> for row in shrink_report(model).rows:
    ...     print(row.group, row.channels, row.removable, row.reason)
    a 8 0 layer 'b' reads it with weights that aren't zero
    b 2 0 it is an output of the model
    """
    flat = _plain(model)
    before = flat.count_params()
    found = plan(flat)
    smaller = cut(flat, found.analysis, found.removed, found.offsets) if found.removed else flat
    rows = (*_rows(found), *_rows_of_whole(flat))
    return ShrinkReport(model.name, rows, before, smaller.count_params())


def _plain(model: keras.Model) -> keras.Model:
    check_built(model)
    check_floats(model, "Shrink")
    if is_quantized(model):
        raise ValueError(
            f"Expected a model without quantizers. Received: {model.name!r}, which is quantized: the ranges of its "
            "activations were found with the channels that would go. Call tfcompress.shrink before "
            "tfcompress.quantize, or take the quantizers away with tfcompress.strip."
        )
    return strip(model)


def _rows(found: Plan) -> list[ShrinkRow]:
    rows = []
    for index, group in enumerate(found.analysis.groups):
        able = int(np.count_nonzero(found.removable[index]))
        removed = len(found.removed.get(index, ()))
        reason = found.reasons[index] if able < group.size else "one channel has to stay"
        rows.append(ShrinkRow(group.name, group.kind, group.producers, group.size, able, removed, reason))
    return rows


def _rows_of_whole(flat: keras.Model) -> list[ShrinkRow]:
    """Return a row for each attention whose heads aren't looked at, since it is one layer."""
    rows = []
    for layer in flat.layers:
        reason = why_whole(layer)
        if reason is not None:
            inner = innermost(layer)
            heads = getattr(inner, "num_heads", None) or inner.num_query_heads
            rows.append(ShrinkRow(layer.name, "attention_head", (layer.name,), heads, 0, 0, reason))
    return rows


def _outputs(model: keras.Model, data: Any) -> list[np.ndarray]:
    with keras.StatelessScope():
        outputs: Any = tree.flatten(model(data, training=False))
    return [np.asarray(ops.convert_to_numpy(ops.cast(x, "float32"))) for x in outputs]


def _check_equal(flat: keras.Model, smaller: keras.Model) -> None:
    """Raise ValueError unless both models' outputs agree for random data."""
    if any(keras.backend.standardize_dtype(x.dtype) == "string" for x in flat.inputs):
        return
    data = random_inputs(flat)
    try:
        before, again = _outputs(flat, data), _outputs(flat, data)
    except Exception as error:
        pass_on_full(error)
        return  # it doesn't run on such data
    precisions = {"float16": 1e-2, "bfloat16": 1e-1}
    tolerance = max(precisions.get(layer.compute_dtype, 1e-5) for layer in flat.layers)
    if _close(before, again, tolerance) and not _close(before, _outputs(smaller, data), tolerance):
        raise ValueError(
            f"Expected the smaller model to compute the same. Received: other outputs of {flat.name!r}, which is a "
            "bug of tfcompress. Please report it with the model's summary."
        )


def _close(old: list[np.ndarray], new: list[np.ndarray], tolerance: float) -> bool:
    """Return whether all outputs agree to within `tolerance`, or that share of the largest if it is beyond 1."""
    for want, got in zip(old, new, strict=True):
        scale = max(1.0, float(np.max(np.abs(want[np.isfinite(want)]), initial=0.0)))
        if want.shape != got.shape or not np.allclose(want, got, rtol=0, atol=tolerance * scale, equal_nan=True):
            return False
    return True
