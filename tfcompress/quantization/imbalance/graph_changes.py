"""Changes of a graph whose channels need scales of their own: calls stay float, or affine maps move to branches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from keras import layers as L

from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.rewrite import Call, rewritten
from tfcompress.quantization.graph.channel_slices import layer_of, sliced, tensors_of
from tfcompress.quantization.graph.float_layers import KeptFloat
from tfcompress.quantization.graph.op_policies import KERNEL
from tfcompress.quantization.graph.placement import Placement

WHOLE = (
    "It is quantized all the same, since the target takes integers alone: scale what goes in and out outside of "
    "the model, or take config='int16x8'."
)


@dataclasses.dataclass
class GraphChanges:
    """What is to be done to a graph.

    Attributes:
        kept: Calls that are to compute in float, each with the reason.
        moved: Affine maps that go onto the branches of the concatenation that they read.
        apart: The names of operations that only move values, behind which quantizers stand by themselves.
        remarks: What a reader should know, a sentence for each tensor.
        notes: The same of what is left as it is.
        found: What is wrong, the first part of each remark.
        integers_only: Whether no call may be kept in float.
    """

    kept: dict[Call, str] = dataclasses.field(default_factory=dict)
    moved: dict[Call, Call] = dataclasses.field(default_factory=dict)
    apart: set[str] = dataclasses.field(default_factory=set)
    remarks: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    found: list[str] = dataclasses.field(default_factory=list)
    integers_only: bool = False

    def keep(self, calls: Iterable[Call], why: str) -> None:
        """Let calls compute in float, where any may."""
        if not self.integers_only:
            self.kept.update((call, why) for call in calls)

    def say(self, about: str, done: str, floats: bool = True) -> None:
        """Note what is wrong, and what is done; `floats`: that is to compute in float."""
        self.found.append(about)
        self.remarks.append(f"{about} {WHOLE if floats and self.integers_only else done}")


def apply_changes(changes: GraphChanges, lowered: FlatGraph, placement: Placement) -> FlatGraph:
    """Return the graph with the changes made."""
    onto = {concatenation: call for call, concatenation in changes.moved.items()}
    kept: dict[int, Any] = {}

    def floating(call: Call) -> Any:
        operation = call.operation
        if placement.rules[call].kind == KERNEL:
            return operation
        if id(operation) not in kept:
            layer = operation if isinstance(operation, L.Layer) else layer_of(call)
            wrapped = KeptFloat(layer, changes.kept[call])
            wrapped.build()
            kept[id(operation)] = wrapped
        return kept[id(operation)]

    def visit(call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if call in changes.moved:
            return arguments[0]
        if call in changes.kept:
            operation = floating(call)
            if not isinstance(call.operation, L.Layer) and operation is not call.operation:
                arguments, keywords = tensors_of(arguments, keywords), {}
            return operation(*arguments, **keywords)
        if call in onto:
            arguments = (_on_branches(onto[call], tensors_of(arguments, keywords)[0]), *arguments[1:])
            keywords = {key: value for key, value in keywords.items() if key not in ("xs", "inputs")}
        return call.operation(*arguments, **keywords)

    return rewritten(lowered, visit)


def _on_branches(call: Call, branches: list[Any]) -> list[Any]:
    def slices() -> Iterator[Any]:
        start = 0
        for branch in branches:
            end = start + branch.shape[-1]
            layer: Any = sliced(call, start, end)
            yield layer(branch)
            start = end

    return list(slices())
