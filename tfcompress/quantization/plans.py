"""What is done to a graph for the sake of its scales: some of it stays float, some affine maps go onto branches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers as L

from tfcompress.quantization.forms import constant_map
from tfcompress.quantization.kept import KeptFloat
from tfcompress.quantization.placement import Placement
from tfcompress.quantization.rules import KERNEL
from tfcompress.quantization.slicing import sliced
from tfcompress.surgery.walking import Call, walk


@dataclasses.dataclass
class Plan:
    """What is to be done to a graph.

    Attributes:
        kept: Calls that are to compute in float, each with the reason.
        moved: Affine maps that go onto the branches of the concatenation that they read.
        remarks: What a reader should know, a sentence for each tensor.
    """

    kept: dict[Call, str] = dataclasses.field(default_factory=dict)
    moved: dict[Call, Call] = dataclasses.field(default_factory=dict)
    remarks: list[str] = dataclasses.field(default_factory=list)


def carry_out(plan: Plan, model: keras.Model, placement: Placement) -> keras.Model:
    """Return the model with a plan carried out."""
    onto = {joint: call for call, joint in plan.moved.items()}
    kept: dict[int, Any] = {}

    def floating(call: Call) -> Any:
        operation = call.operation
        if placement.rules[call].kind == KERNEL:
            return operation
        if id(operation) not in kept:
            layer = operation if isinstance(operation, L.Layer) else _layer_of(call)
            wrapped = KeptFloat(layer, plan.kept[call])
            wrapped.build()
            kept[id(operation)] = wrapped
        return kept[id(operation)]

    def visit(call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if call in plan.moved:
            return arguments[0]
        if call in plan.kept:
            operation = floating(call)
            if not isinstance(call.operation, L.Layer) and operation is not call.operation:
                arguments, keywords = _tensors(arguments, keywords), {}
            return operation(*arguments, **keywords)
        if call in onto:
            arguments = (_on_branches(onto[call], _tensors(arguments, keywords)[0]), *arguments[1:])
            keywords = {key: value for key, value in keywords.items() if key not in ("xs", "inputs")}
        return call.operation(*arguments, **keywords)

    return walk(model, visit)


def _tensors(arguments: Any, keywords: Any) -> tuple[Any]:
    """Return the tensors among the arguments of an operation, as a layer takes them: one, or a list."""
    found = [x for x in keras.tree.flatten((arguments, keywords)) if keras.utils.is_keras_tensor(x)]
    return (found[0],) if len(found) == 1 else (found,)


def _layer_of(call: Call) -> L.Layer:
    """Return a layer that does what an operation of the graph does: a concatenation, or an affine map."""
    constant = constant_map(call)
    made: L.Layer
    if constant is None:
        made = L.Concatenate(axis=call.operation.axis, name=call.operation.name, dtype=call.outputs[0].dtype)
        made.build([x.shape for x in call.inputs])
    else:
        scale, offset = (part.tolist() for part in constant)
        made = L.Rescaling(scale, offset, name=call.operation.name, dtype=call.outputs[0].dtype)
    return made


def _on_branches(call: Call, branches: list[Any]) -> list[Any]:
    def slices() -> Iterator[Any]:
        start = 0
        for branch in branches:
            end = start + branch.shape[-1]
            layer: Any = sliced(call, start, end)
            yield layer(branch)
            start = end

    return list(slices())
