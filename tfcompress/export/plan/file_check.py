"""A written file held against its plan."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tfcompress.export.plan.export_plan import ExportPlan
from tfcompress.export.plan.file_operators import FileArithmetic, FileOperator, FloatOperator, Operators, StoredWeight
from tfcompress.export.plan.planned_weights import SMALLEST_STORED, digest
from tfcompress.quantization.numerics.grid import Grid
from tfcompress.tracing.fake_quantizers import fake_quantizer_grids
from tfcompress.tracing.trace import CALL_SUFFIX, Trace

KERNELS = {
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL"),
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "MatMulNBits"),
}
STORED = KERNELS - {"BATCH_MATMUL"}
"""Kernels whose integers come from a plan alone: constants beside activations are rounded where the file is written."""

TABLES = {"GATHER", "Gather"}
FASTER = {"tflite": {"CONV_2D", "FULLY_CONNECTED"}, "onnx": {"MatMul", "Gemm"}}
"""Kernels that compute in integers where ranges are found at run time."""


def compare(arithmetic: FileArithmetic, plan: ExportPlan, trace: Trace, kind: str, dynamic: bool) -> Operators:
    """Hold a file against the plan; return what its operators compute in.

    Args:
        arithmetic: What was read in the file.
        plan: Of the model.
        trace: That the file was made from.
        kind: "tflite" or "onnx".
        dynamic: Whether ranges are found at run time.

    Raises:
        ValueError: A layer that the model has in integers isn't in the file, or has other integers there; or a tensor
            is rounded to a grid that isn't planned. It is named.
    """
    _check_grids(arithmetic, plan, trace)
    known = trace.layers | frozenset(plan.sources)
    named = [_named(op, plan, known) for op in arithmetic.operators]
    having = {name for op, name in zip(arithmetic.operators, named, strict=True) if op.weights is not None}
    # A float product in front of a layer may have its name too, where a converter joins names.
    done = {name for op, name in zip(arithmetic.operators, named, strict=True) if op.weights is not None and op.integer}
    layers: list[str | None] = []
    floats = []
    for op, own in zip(arithmetic.operators, named, strict=True):
        before = (name for name in (layers[place] for place in op.before) if name is not None)
        layer = own if own is not None else next(before, None)
        layers.append(layer)
        if own is not None:
            _check_integers(op, own, plan)
        # A product without a layer's name, as in a Fourier transform, isn't the one of the layer in front of it.
        if (own is not None or layer not in having) and layer not in done:
            _check(op, layer, plan, kind, dynamic)
        if not op.integer:
            reason = plan.reasons.get(layer or "", plan.otherwise)
            floats.append(FloatOperator(op.kind, op.tensor, layer, reason))
    narrow = tuple(_narrow(zip(arithmetic.operators, named, strict=True), plan))
    return Operators(sum(op.integer for op in arithmetic.operators), tuple(floats), arithmetic.kinds, narrow)


def layers_by_weight(arithmetic: FileArithmetic, plan: ExportPlan, trace: Trace) -> Callable[[np.ndarray], str | None]:
    """Return a function from a weight's integers, as a file has them, to the layer that has it; `None`: not known.

    The names in the file say it. Where they don't, it is the one planned weight that has as many integers of each size.
    """
    known = trace.layers | frozenset(plan.sources)
    named = {op.integers: layer for op in arithmetic.operators if (layer := _named(op, plan, known)) is not None}
    alike: dict[bytes, set[str]] = {}
    for weight in plan.weights.weights:
        alike.setdefault(_magnitudes(weight.encoding.integers), set()).add(weight.layer)

    def layer_of(integers: np.ndarray) -> str | None:
        others = alike.get(_magnitudes(integers), set())
        return named.get(digest(integers)) or (next(iter(others)) if len(others) == 1 else None)

    return layer_of


def _magnitudes(integers: np.ndarray) -> bytes:
    """Return how often each magnitude is there, as bytes: converters move integers, and change their signs."""
    return np.bincount(np.abs(integers.astype(np.int16)).reshape(-1), minlength=129).tobytes()


def _named(op: FileOperator, plan: ExportPlan, known: frozenset[str]) -> str | None:
    """Return the layer that the names of an operator tell; `None`: none."""
    found = [plan.sources.get(name, name) for name in layers_in(op.names, known)]
    if plan.sources:  # a layer inside of another is none of a quantized model's
        found.sort(key=lambda name: name not in plan.layers)
        if op.weights is not None:  # the name may be that of an activation that is part of it
            found.sort(key=lambda name: name not in plan.weights.layers)
    return found[0] if found else None


def require_integers(found: Operators, name: str) -> None:
    """Raise ValueError if an operator of a model's file computes in float."""
    if not found.floats:
        return
    raise ValueError(
        f"Expected operators that compute in integers alone (require_integer=True). Received: {name!r}, of "
        f"whose file {len(found.floats)} of {len(found.floats) + found.integer} compute in float: "
        f"{floats_by_layer(found)}. Quantize the model with 'int8', replace these layers, or leave require_integer out."
    )


def floats_by_layer(found: Operators) -> str:
    """Return the operators that compute in float, by layer, and why."""
    by_layer: dict[str, list[str]] = {}
    for op in found.floats:
        where = f"layer {op.layer!r}" if op.layer else repr(op.tensor)
        by_layer.setdefault(f"{where}{f' ({op.reason})' if op.reason else ''}", []).append(op.kind)
    return "; ".join(f"{', '.join(kinds)} of {where}" for where, kinds in by_layer.items())


def _check(op: FileOperator, layer: str | None, plan: ExportPlan, kind: str, dynamic: bool) -> None:
    """Raise ValueError if a layer's weights are float in the file, and are integers in the model."""
    if op.integer or op.kind not in KERNELS | TABLES or op.weights is None:
        return
    wanted = ""
    if layer in plan.integer or (dynamic and layer in plan.stored and op.kind in FASTER[kind]):
        wanted = "to compute in integers"
    elif layer in plan.stored and not op.weights.startswith("int") and op.size >= SMALLEST_STORED:
        wanted = "to have weights of 8 bits"
    if wanted:
        raise ValueError(
            f"Expected layer {layer!r} {wanted}, as the quantized model says. Received: a file in which its "
            f"{op.kind} ({op.tensor!r}) has weights of {op.weights} and computes in float: none of its constants "
            "decodes to the planned integers, since the converter computes with something else than the layer's "
            "weights. Leave that layer float with layers=, or write it with a Keras layer."
        )


def _check_grids(arithmetic: FileArithmetic, plan: ExportPlan, trace: Trace) -> None:
    """Raise ValueError if a file rounds a tensor to a grid that is neither planned nor the model's own.

    What is looked up in a table has the table's grid; a layer's own call may hold fake-quantizers.
    """
    if not plan.grids:
        return
    tables = (one.encoding for one in plan.weights.weights if one.encoding.scale.size == 1)
    known = (*plan.grids.values(), *(Grid(each.scale.item(), 0, max(each.bits, 8)) for each in tables))
    unplanned = _not_among(arithmetic.grids, known)
    if unplanned:  # the quantizers of the plan are no layers of it
        own = (grid for name, grid in fake_quantizer_grids(trace) if any(layers_in([name], plan.layers)))
        unplanned = _not_among(unplanned, own)
    for tensor, found in unplanned:
        other = ".onnx" if plan.format == "tflite" else ".tflite"
        raise ValueError(
            f"Expected the grids that the quantized model plans. Received: a file in which {tensor!r} has scale "
            f"{found.scale:.6g} and zero point {found.zero_point}, which the converter made by itself. "
            f"Leave that layer float with layers=, or export to {other}."
        )


def _not_among(found: Iterable[tuple[str, Grid]], grids: Iterable[Grid]) -> list[tuple[str, Grid]]:
    """Return the tensors whose grids are none of others.

    TensorFlow's converter may round a zero point that lies between two integers to the other of them.
    """
    scales: dict[tuple[int, int], list[float]] = {}  # by bits and zero point
    for grid in grids:
        for step in (0, 1, -1):
            scales.setdefault((grid.bits, grid.zero_point + step), []).append(grid.scale)
    for known in scales.values():
        known.sort()

    def is_known(grid: Grid) -> bool:
        near = scales.get((grid.bits, grid.zero_point), [])
        at = bisect.bisect(near, grid.scale)
        return any(dataclasses.replace(grid, scale=scale).close(grid) for scale in near[max(at - 1, 0) : at + 1])

    return [(tensor, grid) for tensor, grid in found if not is_known(grid)]


def _check_integers(op: FileOperator, layer: str, plan: ExportPlan) -> None:
    """Raise ValueError if a layer's kernel has other integers in the file than those that are planned."""
    if op.kind in STORED and layer in plan.stored and op.integers and op.integers not in plan.weights.attached:
        raise ValueError(
            f"Expected the integers that the quantized model plans for layer {layer!r}. Received: a file in which "
            f"its {op.kind} ({op.tensor!r}) has others. Leave that layer float with layers=."
        )
    forms = plan.weights.stored.get(op.integers)
    if forms and op.weights not in forms:
        raise ValueError(
            f"Expected the weights of layer {layer!r} to be stored in {' or '.join(forms)}. Received: a file in which "
            f"its {op.kind} ({op.tensor!r}) has them in {op.weights}. Leave that layer float with layers=."
        )


def _narrow(named: Iterable[tuple[FileOperator, str | None]], plan: ExportPlan) -> Iterator[StoredWeight]:
    """Yield in what the file stores the weights of fewer than 8 bits, once for each layer and type."""
    bits = {weight.layer: weight.encoding.bits for weight in plan.weights.weights}
    told = set()
    for op, layer in named:
        forms = plan.weights.stored.get(op.integers, {})
        if layer is not None and bits.get(layer, 8) < 8 and op.weights in forms and (layer, op.weights) not in told:
            told.add((layer, op.weights))
            yield StoredWeight(layer, bits[layer], op.weights, forms[op.weights])


def layers_in(names: Iterable[str], known: frozenset[str]) -> Iterator[str]:
    """Yield the layers in each name of a tensor or operator, inner ones first; semicolons join several names."""
    for text in names:
        if text in known:  # an output of the model
            yield text
        for part in text.split(";"):
            scopes = reversed(part.split(":")[0].split("/")[:-1])  # the last is the operation
            words = ((CALL_SUFFIX.sub("", scope), scope) for scope in scopes)
            yield from (next(word for word in both if word in known) for both in words if not known.isdisjoint(both))
