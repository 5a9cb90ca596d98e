"""An export for a target: what it fixes, and what it can't do, refused before any work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.memory_limits import check_limits
from tfcompress.core.packages import TFLITE_MICRO
from tfcompress.core.passthrough import innermost
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.export.inference_io import has_integer_ends
from tfcompress.export.onnx.weights.choice import WIDTHS
from tfcompress.export.plan.scheme import scheme_of
from tfcompress.export.tflite.weights.storage import EIGHT, SIZE
from tfcompress.graph.inputs.symbolic import has_graph
from tfcompress.graph.rewrite import calls
from tfcompress.layers.names import name_of, name_of_function
from tfcompress.quantization.weights.float16 import Float16Weight
from tfcompress.quantization.weights.uniform import WeightQuantizer
from tfcompress.targets import OperatorSet, Target
from tfcompress.tracing.row_counts import AUTO, BatchSize
from tfcompress.tracing.signature import read_signature

WORDS = {
    "float32": "floats",
    "float16": "float16 weights",
    "int8": "8-bit integers",
    "int16x8": "activations of 16 bits",
    "int8_weights": "integer weights with float activations",
    "dynamic_int8": "ranges that are found at run time",
}
"""What `Target.numbers` are, in words."""

QUANTIZE = {"float16": "precision='float16'", "float32": "no quantization"}
"""How a model comes to numbers, where it isn't by `tfc.quantize(model, numbers)`."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What an export was asked for, as far as a target has a say in it.

    Attributes:
        batch_size: As `export` takes it.
        inference_io: Likewise; `None`: not said.
        precision: Likewise.
        sparse: Likewise.
        require_integer: Likewise.
        prefer: Likewise.
        floats: Whether inputs and outputs must be floats, since they are states or random numbers.
    """

    batch_size: BatchSize
    inference_io: str | None
    precision: str
    sparse: Any
    require_integer: bool
    prefer: str
    floats: bool = False


def settled(target: Target | None, model: keras.Model, kind: str, asked: Asked, proves: bool) -> Asked:
    """Return what is done for a target; refuse what it can't do.

    Args:
        target: What the file is for; `None`: not said.
        model: Plain or wrapped.
        kind: "tflite" or "onnx".
        asked: What was asked for.
        proves: Whether the file is to be run.

    Raises:
        ImportError: A runtime of the target isn't installed.
        ValueError: The target can't do it; the message says what to do.
    """
    if target is None:
        return asked
    check_layers(target, model, kind, asked.batch_size, proves)
    _check_numbers(target, model, asked.precision)
    _check_weights(target, model)
    known = target.known_operators
    sparse = asked.sparse
    if known is not None and known.missing(["DENSIFY"]):
        if sparse is True:
            raise ValueError(
                f"Expected sparse=False for target {target.name!r}: {known.runtime} doesn't read sparse weights. "
                "Received: sparse=True."
            )
        sparse = False
    narrow = min(target.weight_bits) < 8
    if not narrow and asked.prefer == SIZE:
        raise ValueError(
            f"Expected prefer='speed' for target {target.name!r}, whose kernels read weights of 8 bits. Received: "
            "prefer='size'."
        )
    batch = target.batch if asked.batch_size == AUTO and target.batch is not None else asked.batch_size
    return dataclasses.replace(
        asked,
        batch_size=_batch(model, batch, asked.batch_size),
        inference_io=asked.inference_io or _integer_io(target, model, asked.floats),
        sparse=sparse,
        require_integer=asked.require_integer or target.integers_only,
        prefer=asked.prefer if narrow else EIGHT,
    )


def check_layers(
    target: Target, model: keras.Model, kind: str, batch_size: BatchSize = AUTO, proves: bool = True
) -> None:
    """Refuse a model, quantized or not, whose layers or sizes a target can't have, or a file of another format.

    Args:
        target: What the file is for.
        model: Plain or wrapped.
        kind: "tflite" or "onnx".
        batch_size: As `export` takes it.
        proves: Whether the file is to be run.

    Raises:
        ImportError: A runtime of the target isn't installed.
        ValueError: The target can't do it; the message says what to do.
    """
    if kind not in target.formats:
        raise ValueError(
            f"Expected a .{target.formats[0]} file for target {target.name!r}. Received: a .{kind} file. Name it so, "
            "or take another target."
        )
    if proves and "tflm" in target.runtimes_of(kind):
        TFLITE_MICRO.check()
    _check_sizes(target, model, batch_size)
    known = target.known_operators
    if known is not None:
        _check_layers(target, model, known)


def check_memory(target: Target | None, ram: int | None, flash: int | None) -> None:
    """Refuse limits of memory where what a file takes of it isn't known.

    Raises:
        ValueError: A limit is no number of bytes, or the file isn't for a microcontroller alone; the message says what
            knows it then.
    """
    check_limits(ram, flash)
    if (ram is None and flash is None) or (target is not None and "tflm" in target.runtimes and not target.accelerator):
        return
    way = "Leave them out, or export for a microcontroller."
    if target is not None and target.accelerator is not None:
        way = "tfc.estimate_npu(file, ram=..., flash=...) says what Vela estimates of a file for an NPU."
    raise ValueError(
        f"Expected target='microcontroller' beside ram= and flash=. Received: "
        f"target={None if target is None else target.name!r}. {way}"
    )


def conversion_for(target: Target | None, kind: str) -> dict[str, Any]:
    """Return how a conversion for a target is made and proved."""
    if target is None:
        return {"bits": WIDTHS}
    known = target.known_operators
    operators = known.operators if known is not None else ()
    return {"bits": target.weight_bits, "runtimes": target.runtimes_of(kind), "known": operators}


def _batch(model: keras.Model, batch: BatchSize, asked: BatchSize) -> BatchSize:
    """Return the batch of a target, unless the model's own inputs fix another."""
    fixed = any(spec.shape and spec.shape[0] for spec in read_signature(model).inputs.values())
    return asked if fixed else batch


def numbers_of(model: keras.Model, precision: str) -> str:
    """Return in what a model's file computes, as `Target.numbers` names it."""
    scheme = scheme_of(model)
    if scheme is None:
        halves = any(isinstance(t, Float16Weight) for layer in wrapped_layers(model) for _, t in layer.transforms)
        return "float16" if halves else precision
    if scheme.activations != "static":
        return "int8_weights" if scheme.activations is None else "dynamic_int8"
    return "int8" if scheme.activation_bits == 8 else "int16x8"


def _check_numbers(target: Target, model: keras.Model, precision: str) -> None:
    found = numbers_of(model, precision)
    if found in target.numbers:
        return
    wanted = ", or ".join(WORDS[one] for one in target.numbers)
    ways = " or ".join(QUANTIZE.get(one, f"tfc.quantize(model, {one!r}, data=...)") for one in target.numbers)
    raise ValueError(
        f"Expected {wanted}, in which target {target.name!r} computes. Received: {model.name!r} with {WORDS[found]}. "
        f"Take {ways}."
    )


def _check_weights(target: Target, model: keras.Model) -> None:
    for layer in wrapped_layers(model):
        for _, transform in layer.transforms:
            if not isinstance(transform, WeightQuantizer):
                continue
            granularity = transform.spec.granularity
            kind = granularity if isinstance(granularity, str) else "blocks"
            if kind not in target.granularity:
                raise ValueError(
                    f"Expected scales {' or '.join(target.granularity)}, as target {target.name!r} has them. Received: "
                    f"{kind if kind != 'blocks' else f'blocks of {granularity}'}, at layer {layer.name!r}. Quantize "
                    f"with granularity={target.granularity[0]!r}."
                )


def _check_sizes(target: Target, model: keras.Model, batch_size: BatchSize) -> None:
    if not target.fixed_sizes:
        return
    if batch_size is None:
        raise ValueError(
            f"Expected a fixed batch for target {target.name!r}. Received: batch_size=None. Leave it out, or give a "
            "number."
        )
    for name, spec in read_signature(model).inputs.items():
        if None in spec.shape[1:]:
            raise ValueError(
                f"Expected inputs of fixed sizes for target {target.name!r}. Received: {name!r} of shape {spec.shape}. "
                "Make the model with fixed sizes, and set_weights."
            )


def _check_layers(target: Target, model: keras.Model, known: OperatorSet) -> None:
    """Refuse layers and activations whose operator is known to be missing."""
    for layer, name in _named(model):
        operator = known.layers.get(name)
        if operator is not None:
            raise ValueError(
                f"Expected layers that target {target.name!r} can run. Received: {layer!r}, which needs {operator}: "
                f"{known.runtime} {known.version} hasn't it. {known.ways[operator]}"
            )


def _named(model: keras.Model) -> Iterator[tuple[str, str]]:
    """Yield the layers of a model and what they, and their activations, are called."""
    operations: list[Any] = [call.operation for call in calls(model)] if has_graph(model) else []
    for operation in dict.fromkeys([*operations, *flatten_layers(model)]):
        yield operation.name, name_of(operation)
        function = getattr(innermost(operation), "activation", None)
        if function is not None:
            yield operation.name, name_of_function(function)


def _integer_io(target: Target, model: keras.Model, floats: bool) -> str:
    """Return the dtype of inputs and outputs that a target wants, where the model can have it."""
    if floats or numbers_of(model, "float32") != "int8" or not has_integer_ends(model):
        return "float32"
    return target.integer_io
