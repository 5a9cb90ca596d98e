"""The status of each layer: shape, sparsity, distinct values, bytes, and whether it is compressed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras.layers import Layer

from tfcompress.core.old_calls import accepts_old_calls, accepts_old_fields
from tfcompress.core.out_of_memory import says_memory
from tfcompress.core.passthrough import innermost
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.core.wrappers import remarks
from tfcompress.evaluation.kernels import Kernel, kernels_of, parts
from tfcompress.evaluation.size import count_keras
from tfcompress.export.plan.export_plan import PlannedOperator, plan_export
from tfcompress.graph.keras_quantized import check_floats, mode_of
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.graph.operator_status import OperatorStatus
from tfcompress.quantization.weights.codebook import Codebook
from tfcompress.quantization.weights.left_dense import LeftDense
from tfcompress.quantization.weights.uniform import WeightQuantizer


@accepts_old_fields(island="fallback")
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
    output: str = ""
    """Bits and range of the quantizer behind the layer; "not calibrated" where it has no range yet."""
    fallback: bool = False
    """Whether the layer computes in floating point among quantized ones."""
    precision: str = ""
    """The dtype that the layer computes in while it is trained, such as "bfloat16"; empty for an operation."""
    config: str = ""
    """What was asked for, in few words, such as "75% zeros, int16x8"."""

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


@accepts_old_fields(islands="fallbacks")
@dataclasses.dataclass(frozen=True)
class Summary:
    """All layers of a model, one row per kernel; `print` shows the table.

    Attributes:
        name: The model's name.
        rows: One row for each kernel, and one for each layer without any.
        parameters: Number of all weights, biases and statistics included.
        remarks: What has become of the weights otherwise than it was meant, such as a sparsity that wasn't reached.
        by_layer: Whether layers have different configs, which the table then shows.
    """

    name: str
    rows: tuple[WeightRow, ...]
    parameters: int
    remarks: tuple[str, ...] = ()
    by_layer: bool = False

    def __str__(self) -> str:
        return self.table()

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """The layers that compute in floating point among quantized ones."""
        return tuple(dict.fromkeys(row.layer for row in self.rows if row.fallback))

    @property
    def sparsity(self) -> float:
        """Share of zeros in all kernels."""
        return sum(row.zeros for row in self.rows) / max(sum(row.size for row in self.rows), 1)

    @property
    def sparsities(self) -> dict[str, float]:
        """Share of zeros in each kernel, by "layer/kernel"."""
        return {f"{row.layer}/{row.weight}": row.sparsity for row in self.rows if row.weight}

    def table(self, width: int = 120) -> str:
        """Return the table as text, at most `width` columns wide."""
        import io

        from rich import box
        from rich.console import Console
        from rich.table import Table

        mixed = any(row.precision in ("float16", "bfloat16") for row in self.rows)
        title = f"{self.name}: {self.parameters:,} parameters, kernels {self.sparsity:.1%} zero"
        quantized = any(row.output or row.fallback for row in self.rows)
        if quantized:
            count = sum(row.fallback for row in self.rows)
            title += f", {count} float fallback{'' if count == 1 else 's'}"
        table = Table(title=title, box=box.SIMPLE)
        # A row of a quantized model says more: what "distinct" counts is bounded by the bits there.
        texts = ("layer", "class", "shape") if quantized else ("layer", "class", "kernel", "shape")
        figures = ("zeros", "bytes") if quantized else ("zeros", "distinct", "bytes")
        for heading in (*texts, "computes in") if mixed else texts:
            table.add_column(heading, no_wrap=heading not in ("layer", "kernel"), overflow="fold")
        for heading in figures:
            table.add_column(heading, justify="right", no_wrap=True)
        if self.by_layer:
            table.add_column("config", overflow="fold")
        for heading in ("output", "status") if quantized else ("status",):
            table.add_column(heading, no_wrap=heading == "output" or not quantized, overflow="fold")
        for row in self.rows:
            own = row.weight if row.weight not in ("", "kernel") else ""
            cells = {
                "layer": f"{row.layer} {own}".strip() if quantized else row.layer,
                "class": row.kind,
                "kernel": row.weight,
                "shape": "x".join(map(str, row.shape)) if row.weight else "",
                "zeros": f"{row.sparsity:.1%}" if row.weight else "",
                "distinct": f"{row.distinct:,}" if row.weight else "",
                "bytes": f"{row.nbytes:,}" if row.weight else "",
                "computes in": row.precision,
                "config": row.config,
                "output": row.output,
                "status": row.status,
            }
            table.add_row(*(cells[str(column.header)] for column in table.columns))
        console = Console(file=io.StringIO(), width=width, record=True)
        console.print(table)
        for text in self.remarks:
            console.print(text, highlight=False, markup=False)
        return console.export_text()


@says_memory
def summary(model: keras.Model, format: str | None = None) -> Summary:
    """Return the status of each layer of a model.

    Args:
        model: A built Keras model, wrapped or plain.
        format: "tflite" or "onnx": the status of a quantized model's layers in such a file, as `tfcompress.plan_export`
            plans it: some are float in one format alone; and the bytes that it has of each kernel: ONNX files have
            small kernels that compute in float as float32. `None`: what both have in common.

    Returns:
        One row per kernel with its shape, zeros, distinct values, bits and bytes as the layer sees it (of fewer than 8
        bits, TFLite stores some in 8: `tfcompress.Artifact` says which), and
        for every layer whether it was pruned, quantized, left as it is, or has nothing to compress; of a quantized
        model also the range of each output, and which layers stay float fallbacks; in mixed precision also what each
        layer computes in (`tfcompress.explain` says why). Where layers have configs of their own, the table
        shows each, in few words.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it isn't built; with `format`, if it can't be planned.

    Example:

    >>> import keras, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> tfc.summary(tfc.prune_once(model, 0.75)).rows[0].zeros
    24
    """
    from tfcompress.graph import check_built

    check_built(model)
    planned = {} if format is None else {one.layer: one for one in plan_export(model, format).operators}
    rows: list[WeightRow] = []
    for layer, found in _parts(model, planned):
        rows += _rows(layer, found, planned.get(layer.name), format)
    asked: dict[type, set[str]] = {}
    for wrapper in wrapped_layers(model):
        for _, transform in wrapper.transforms:
            asked.setdefault(type(transform), set()).add(transform.brief())
    by_layer = any(len(briefs) > 1 for briefs in asked.values())
    return Summary(model.name, tuple(rows), count_keras(model).parameters, tuple(remarks(model)), by_layer)


def _sparsities(model: keras.Model) -> dict[str, float]:
    check_floats(model, "Count the zeros of")
    return summary(model).sparsities


@accepts_old_calls(
    places=((1, "per_layer", None),), verbs={"per_layer": (_sparsities, "tfcompress.summary(model).sparsities")}
)
def sparsity(model: keras.Model) -> float:
    """Return the share of zeros in the kernels of a model, as its layers see them.

    Args:
        model: A built Keras model, wrapped or plain.

    Returns:
        A number in [0, 1]; `tfcompress.summary(model).sparsities` has that of each kernel.

    Example:

    >>> import keras, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> tfc.sparsity(tfc.prune_once(model, 0.5))
    0.5
    """
    check_floats(model, "Count the zeros of")
    return summary(model).sparsity


def _parts(model: keras.Model, planned: Mapping[str, PlannedOperator]) -> Iterator[tuple[Any, OperatorStatus | None]]:
    """Yield the layers of a model; of a quantized one also its operations, each with its (planned) status."""
    for operation, status in parts(model):
        found = status
        if found is not None and (one := planned.get(found.name)):
            fallback = found.fallback or (found.bits > 0 and one.arithmetic != "integer")
            found = dataclasses.replace(found, status=one.status, fallback=fallback)
        yield operation, found


def _rows(
    layer: Any, found: OperatorStatus | None, planned: PlannedOperator | None, format: str | None
) -> list[WeightRow]:
    inner = innermost(layer)
    kind = type(inner).__name__
    output = "" if found is None else _output(found.quantizer)
    fallback = found is not None and found.fallback
    precision = str(inner.compute_dtype) if isinstance(inner, Layer) else ""
    said = "" if found is None else found.status
    mode = mode_of(inner)
    if mode:
        said = f"quantized by Keras itself ({mode})"
    kernels = kernels_of(layer)
    if not kernels:
        status = said or ("no kernel" if getattr(layer, "weights", None) else "no weights")
        return [WeightRow(layer.name, kind, "", (), 0, 0, 0, status, output, fallback, precision)]
    rows = []
    for kernel in kernels:
        value, chain = kernel.value, kernel.chain
        done = list(dict.fromkeys(text for transform in chain if (text := _said_of(transform))))
        rows.append(
            WeightRow(
                layer.name,
                kind,
                kernel.label,
                tuple(value.shape),
                int(value.size - np.count_nonzero(value)),
                len(np.unique(value)),
                kernel.bits if planned is None or format is None else _stored_bits(kernel, planned, format),
                ", ".join([*done, *([said] if said else [])]) or "as it is",
                output,
                fallback,
                precision,
                ", ".join(dict.fromkeys(brief for transform in chain if (brief := transform.brief()))),
            )
        )
    return rows


def _stored_bits(kernel: Kernel, planned: PlannedOperator, format: str) -> int:
    """Return the bits of one value of a kernel in a file: a plain ONNX file has no integers of fewer than 8."""
    if kernel.bits > 8:
        return kernel.bits
    name, size = kernel.label.rpartition("/")[2], kernel.value.size
    if not any((one.name, one.encoding.integers.size) == (name, size) for one in planned.weights):
        return 8 * kernel.value.dtype.itemsize
    return kernel.bits if format == "tflite" else 8


def _said_of(transform: Any) -> str:
    if isinstance(transform, WeightQuantizer):
        blocks = f" in blocks of {transform.spec.block}" if transform.blocks else ""
        return f"int{transform.spec.bits}" + (blocks or (" per channel" if transform.axis is not None else ""))
    if isinstance(transform, Codebook):
        return "clustered"
    if isinstance(transform, LeftDense):
        return f"left dense: {transform.reason}"
    known = {"Mask": "pruned", "ChannelMask": "pruned by channels", "Float16Weight": "float16"}
    return known.get(type(transform).__name__, type(transform).__name__)


def _output(quantizer: ActivationQuantizer | None) -> str:
    if quantizer is None:
        return ""
    kind = f"int{quantizer.spec.bits}"
    if quantizer.spec.dynamic:
        return f"{kind} dynamic"
    if not quantizer.calibrated:
        return f"{kind} not calibrated"
    return quantizer.grid.brief()
