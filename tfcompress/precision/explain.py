"""What each layer of a model computes in, and why it isn't 16 bits."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras.layers import Layer

from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.graph import LayerChoice, check_built, rebuild
from tfcompress.graph.inputs.symbolic import is_graph
from tfcompress.graph.rewrite import Call, calls, is_cast
from tfcompress.precision.float32_rule import reasons
from tfcompress.precision.operation_kinds import has_policy
from tfcompress.precision.policies import HALVES
from tfcompress.reports.tables import to_text

BY_HAND = "named in keep_float32, adds a loss in its call, or takes no other policy"


@dataclasses.dataclass(frozen=True)
class PrecisionRow:
    """One layer or operation.

    Attributes:
        layer: its name.
        kind: its class.
        precision: what it computes in, such as "bfloat16".
        why: why it isn't 16 bits; empty if it is.
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
    """

    name: str
    rows: tuple[PrecisionRow, ...]

    def __str__(self) -> str:
        return self.table()

    def table(self, width: int = 110) -> str:
        """Return one table, a row per layer, as text of at most `width` columns."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in ("layer", "class", "computes in", "why not 16 bits"):
            table.add_column(heading, overflow="fold")
        for row in self.rows:
            table.add_row(Text(row.layer), row.kind, row.precision, row.why)
        half = sum(row.precision in HALVES for row in self.rows)
        return to_text(table, f"{self.name}: {half} of {len(self.rows)} in 16 bits.", width=width)


def explain(model: keras.Model) -> PrecisionReport:
    """Return what each layer and operation of a model computes in, and why it isn't 16 bits.

    Args:
        model: A built Keras model, as `tfcompress.mixed_precision` returns it, maybe saved and loaded since.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it isn't built or can't be opened.

    Example:

    >>> import keras, tfcompress as tfc
    >>> layers = [keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2, name="logits")]
    >>> explain(tfc.mixed_precision(keras.Sequential(layers), "mixed_bfloat16")).rows[1].why
    'makes an output of the model'
    """
    check_built(model)
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
            why = found.get(id(operation), "") or _why(operation, call)
        rows.append(PrecisionRow(operation.name, type(inner).__name__, precision, why))
    return PrecisionReport(model.name, tuple(rows))


def precision_of(call: Call) -> str:
    """Return the dtype that a call computes in: of a layer its policy's, of an operation that of its result."""
    inner = innermost(call.operation)
    if isinstance(inner, Layer):
        return str(inner.compute_dtype)
    return str(keras.backend.standardize_dtype(call.outputs[0].dtype))


def _why(operation: Any, call: Call) -> str:
    inner = innermost(operation)
    if isinstance(inner, Layer):
        return BY_HAND if has_policy(inner) else "no choice: that is what it is about"
    if precision_of(call) == "float32":
        return "what it is given is float32"
    return "no float32 numbers"


def _nests(model: keras.Model) -> bool:
    return any(isinstance(layer, keras.Model) for layer in flatten_layers(model, include_self=False))
