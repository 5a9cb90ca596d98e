"""What layers read that stay float on purpose: the float tensors themselves, though others read them quantized."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras

from tfcompress.graph.index import GraphIndex
from tfcompress.graph.rewrite import Call
from tfcompress.quantization.graph.float_layers import kept_reason
from tfcompress.quantization.graph.op_policies import FLOAT, TRANSPARENT
from tfcompress.quantization.graph.placement import NOT_CHOSEN, ONLY_WEIGHTS, Placement


class Unrounded:
    """Knows the tensors of a new graph that are quantized though something in float makes them.

    Args:
        graph: The old one.
        placement: Of the old graph.
        apart: The names of operations that only move values, behind which quantizers stand by themselves.
    """

    def __init__(self, graph: GraphIndex, placement: Placement, apart: Collection[str]):
        self.graph, self.placement, self.apart = graph, placement, apart
        self.found: dict[int, Any] = {}

    def note(self, old: Any, new: Any) -> None:
        """Take in a tensor of the old graph, and what stands for it before it is quantized."""
        maker = self.graph.producer(old)
        if maker is None or self.placement.rules[maker].kind == FLOAT or maker in self.placement.alone:
            self.found[id(old)] = new

    def given(
        self, call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call, those in float where it reads them so."""
        if not self.reads_float(call) or all(self.of(x) is None for x in call.inputs):
            return arguments, keywords

        def chosen(old: Any, new: Any) -> Any:
            raw = self.of(old) if keras.utils.is_keras_tensor(old) else None
            return new if raw is None else raw

        both = keras.tree.map_structure(chosen, (tuple(call.arguments), dict(call.keywords)), (arguments, keywords))
        return tuple(both[0]), dict(both[1])

    def reads_float(self, call: Call) -> bool:
        """Return whether a call stays float on purpose, or takes parts each of which is quantized by itself."""
        kept = kept_reason(call.operation) is not None or self.placement.rules[call] in (NOT_CHOSEN, ONLY_WEIGHTS)
        return kept or call in self.placement.alone or call.operation.name in self.apart

    def of(self, x: Any) -> Any:
        """Return the float tensor of the new graph that stands for one of the old; `None` if there is no other."""
        if id(x) not in self.found:
            maker = self.graph.producer(x)
            if maker is None or self.placement.rules[maker].kind != TRANSPARENT or len(maker.inputs) != 1:
                return None
            before = self.of(maker.inputs[0])
            if before is None:
                return None
            given = keras.tree.map_structure(
                lambda y: before if keras.utils.is_keras_tensor(y) else y, (maker.arguments, maker.keywords)
            )
            outputs = keras.tree.flatten(maker.operation(*given[0], **given[1]))
            self.found.update(zip(map(id, maker.outputs), outputs, strict=True))
        return self.found[id(x)]
