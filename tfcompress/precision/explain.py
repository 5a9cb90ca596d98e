"""What each layer of a model computes in, and why: integers, 16 bits or float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
from keras.layers import Layer

from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.graph import LayerChoice, check_built, rebuild
from tfcompress.graph.inputs.symbolic import is_graph
from tfcompress.graph.rewrite import Call, calls, is_cast
from tfcompress.precision.float32_rule import reasons
from tfcompress.precision.operation_kinds import has_policy
from tfcompress.precision.policies import HALVES
from tfcompress.quantization.graph.operator_status import operator_status
from tfcompress.quantization.quantize import is_quantized
from tfcompress.quantization.weights.uniform import WeightQuantizer
from tfcompress.reports.tables import to_text

BY_HAND = "left out by keep_float32 or the mapping of policies, adds a loss in its call, or takes no other policy"
NOT_CAST = "no layer of the model is in 16 bits: tfcompress.mixed_precision casts it"


@dataclasses.dataclass(frozen=True)
class PrecisionRow:
    """One layer or operation.

    Attributes:
        layer: its name.
        kind: its class.
        precision: what it computes in, such as "int8", "bfloat16" or "float32".
        why: its quantization status, in a quantized model; else why it isn't 16 bits, empty if it is.
    """

    layer: str
    kind: str
    precision: str
    why: str


@dataclasses.dataclass(frozen=True)
class PrecisionReport:
    """What each layer of a model computes in; `print` shows the table.

    Attributes:
        name: the model's name.
        rows: one for each layer and operation, in the order of computation.
        quantized: whether the model is, so that `why` is the quantization status.
    """

    name: str
    rows: tuple[PrecisionRow, ...]
    quantized: bool = False

    def __str__(self) -> str:
        return self.table()

    def table(self, width: int = 110) -> str:
        """Return one table, a row per layer, as text of at most `width` columns."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in ("layer", "class", "computes in", "status" if self.quantized else "why not 16 bits"):
            table.add_column(heading, overflow="fold")
        for row in self.rows:
            table.add_row(Text(row.layer), row.kind, row.precision, row.why)
        wanted, said = (
            (lambda x: x.startswith("int"), "with integers") if self.quantized else (HALVES.__contains__, "in 16 bits")
        )
        count = sum(map(wanted, (row.precision for row in self.rows)))
        return to_text(table, f"{self.name}: {count} of {len(self.rows)} {said}.", width=width)


def explain(model: keras.Model) -> PrecisionReport:
    """Return what each layer and operation of a model computes in, and why.

    Of a quantized model that is the integers, or the float type, in which its file computes, with the quantization
    status; of any other model the float type, and why it isn't 16 bits.

    Args:
        model: A built Keras model, as `tfcompress.quantize` or `tfcompress.mixed_precision` returns it, maybe saved
            and loaded since.

    Returns:
        A `PrecisionReport`: `print(it)`, `it.rows`.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it isn't built or can't be opened.

    Example:

    >>> import keras, tfcompress as tfc
    >>> layers = [keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2, name="logits")]
    >>> tfc.explain(tfc.mixed_precision(keras.Sequential(layers), "mixed_bfloat16")).rows[1].why
    'makes an output of the model'
    >>> quantized = tfc.quantize(keras.Sequential([*layers, keras.layers.LayerNormalization()]), "int8")
    >>> [(row.precision, row.why) for row in tfc.explain(quantized).rows[1:]]
    [('int8', 'int8 kernel'), ('float32', 'float fallback: no integer kernel')]
    """
    check_built(model)
    if is_quantized(model):
        return PrecisionReport(model.name, tuple(_of_quantized(model)), quantized=True)
    flat = model if is_graph(model) and not _nests(model) else rebuild(model)
    graph = calls(flat)
    halves = [d for call in graph if (d := precision_of(call)) in HALVES]
    policy = f"mixed_{halves[0]}" if halves else "mixed_float16"
    found = reasons(flat, LayerChoice([]), policy)
    rows, seen = [], set()
    for call in graph:
        operation = call.operation
        if id(operation) in seen or isinstance(operation, Inserted) or is_cast(operation):
            continue
        seen.add(id(operation))
        precision = precision_of(call)
        inner = innermost(operation)
        why = ""
        if not precision.endswith("float16"):
            why = found.get(id(operation), "") or _why(operation, call, bool(halves))
        rows.append(PrecisionRow(operation.name, type(inner).__name__, precision, why))
    return PrecisionReport(model.name, tuple(rows))


def _of_quantized(model: keras.Model) -> Iterator[PrecisionRow]:
    """Yield the rows of a quantized model, in which weights and activations say what each operator computes in."""
    statuses, seen = operator_status(model), set()
    for call in calls(model):
        operation, found = call.operation, statuses.get(id(call.operation))
        if found is None or id(operation) in seen:
            continue
        seen.add(id(operation))
        weights = _weight_quantizer(operation)
        kernel = "" if weights is None else f"int{weights.spec.bits} kernel"
        activations = None if weights is None else weights.activations
        precision, why = precision_of(call), found.status
        if found.bits:
            precision, why = f"int{found.bits}", found.status or kernel
        elif activations is not None and activations.dynamic:
            precision, why = f"int{activations.bits}", f"{kernel}, ranges at run time"
        elif not why and kernel:
            why = f"weight-only: {kernel}"
        yield PrecisionRow(operation.name, type(innermost(operation)).__name__, precision, why)


def _weight_quantizer(operation: Any) -> WeightQuantizer | None:
    transforms = operation.transforms if isinstance(operation, CompressedLayer) else ()
    return next((transform for _, transform in transforms if isinstance(transform, WeightQuantizer)), None)


def precision_of(call: Call) -> str:
    """Return the dtype that a call computes in: of a layer its policy's, of an operation that of its result."""
    inner = innermost(call.operation)
    if isinstance(inner, Layer):
        return str(inner.compute_dtype)
    return str(keras.backend.standardize_dtype(call.outputs[0].dtype))


def _why(operation: Any, call: Call, cast: bool) -> str:
    inner = innermost(operation)
    if isinstance(inner, Layer) and not has_policy(inner):
        return "no choice: that is what it is about"
    if isinstance(inner, Layer):
        return BY_HAND if cast else NOT_CAST
    if precision_of(call) == "float32":
        return "what it is given is float32"
    return "no float32 numbers"


def _nests(model: keras.Model) -> bool:
    return any(isinstance(layer, keras.Model) for layer in flatten_layers(model, include_self=False))
