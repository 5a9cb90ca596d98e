"""Where quantizers stand in a graph, decided once from the rules of `op_policies`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras

from tfcompress.core.passthrough import innermost
from tfcompress.graph.rewrite import Call, readers_of
from tfcompress.layers.channel_axes import channels_of
from tfcompress.layers.names import name_of, name_of_function
from tfcompress.quantization.graph.float_layers import LEFT_OUT
from tfcompress.quantization.graph.op_policies import (
    AFFINE,
    CONCATENATE,
    FLOAT,
    INTEGER,
    KERNEL,
    RELU,
    TRANSPARENT,
    Rule,
    computes,
    rule_of,
)
from tfcompress.quantization.quantize_config import ActivationSpec
from tfcompress.quantization.ranges.divisors import floats_for_divisors

_QUANTIZED = (KERNEL, AFFINE, RELU, INTEGER, CONCATENATE)
_CUTS = ("maximum", "minimum")
"""What they cut off of their inputs need not be within a range."""
_FUSES_RELU = ("add", "subtract", "multiply", *_CUTS)

NOT_CHOSEN = Rule(FLOAT, note=f"float: {LEFT_OUT}")


def shares_range(call: Call, rule: Rule) -> bool:
    """Return whether inputs that nothing else reads have the range of the output."""
    return rule.kind == CONCATENATE or (rule.kind == INTEGER and name_of(call.operation) in _CUTS)


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where quantizers stand.

    Attributes:
        rules: The rule that holds for each call.
        tensors: The symbolic tensors that are quantized, by id, with the range that is fixed for each, `None`: found.
        folded: The affine maps that become part of the kernel or affine map before them.
    """

    rules: dict[Call, Rule]
    tensors: dict[int, tuple[float, float] | None]
    folded: frozenset[Call]


def place(
    graph: Sequence[Call],
    outputs: Sequence[Any],
    spec: ActivationSpec | None,
    includes: Callable[[Any], bool] = lambda layer: True,
    apart: Collection[str] = (),
) -> Placement:
    """Decide where quantizers stand.

    Args:
        graph: The calls of a lowered graph, in order.
        outputs: The model's outputs.
        spec: How activations are quantized; `None`: they aren't.
        includes: Which layers are quantized.
        apart: The names of operations that only move values, behind which quantizers stand by themselves.

    Returns:
        The placement. Quantized are the inputs and outputs of all that has an integer kernel, except between a kernel
        and what is fused with it; where values are only moved, what is before counts.
    """
    return _Placer(graph, outputs, spec, includes, apart).run()


class _Placer:
    def __init__(
        self,
        graph: Sequence[Call],
        outputs: Sequence[Any],
        spec: ActivationSpec | None,
        includes: Callable[[Any], bool],
        apart: Collection[str],
    ):
        self.graph = graph
        self.apart = apart
        self.spec = spec
        self.producer = {id(x): call for call in graph for x in call.outputs}
        self.readers = readers_of(graph)
        self.outputs = {id(x) for x in outputs}
        self.tensors: dict[int, tuple[float, float] | None] = {}
        bits = spec.bits if spec else 8
        self.rules = {call: self.rule(call, bits, includes) for call in graph}
        self.rules.update(floats_for_divisors(graph, self.rules))
        self.folded = frozenset(call for call in graph if self.rules[call].kind == AFFINE and self.folds(call))

    @staticmethod
    def rule(call: Call, bits: int, includes: Callable[[Any], bool]) -> Rule:
        rule = rule_of(call, bits)
        if computes(call.operation, rule) and not includes(call.operation):
            return NOT_CHOSEN
        return rule

    def run(self) -> Placement:
        if self.spec is None:
            return Placement(self.rules, {}, self.folded)
        if self.spec.dynamic:
            for call in self.graph:
                if self.rules[call].kind == KERNEL and not name_of(call.operation).startswith("depthwise"):
                    self.tensors.update((id(x), None) for x in call.inputs)
            return Placement(self.rules, self.tensors, self.folded)
        for call in self.graph:
            rule = self.rules[call]
            if rule.kind not in _QUANTIZED:
                continue
            if call not in self.folded and not self.fused(call):
                for x in call.inputs:
                    self.demand(x)
            for x in call.outputs:
                if not self.taken_on(x):
                    self.tensors[id(x)] = self.fixed(rule)
        for call in self.graph:
            if shares_range(call, self.rules[call]):
                self.share_range(call)
        return Placement(self.rules, self.tensors, self.folded)

    def fixed(self, rule: Rule) -> tuple[float, float] | None:
        """Return the range that the runtimes fix for an output, for the bits of the specification."""
        if rule.output is None or self.spec is None:
            return None
        steps = 2.0 ** (self.spec.bits - 1)
        if self.spec.symmetric:
            return -(steps - 1) / steps, (steps - 1) / steps
        if rule.output == (-1, 1):
            return -1.0, (steps - 1) / steps
        return 0.0, (2 * steps - 1) / (2 * steps)

    def single(self, x: Any) -> bool:
        """Return whether exactly one call reads a tensor."""
        return len(self.readers.get(id(x), ())) == 1 and id(x) not in self.outputs

    def folds(self, call: Call) -> bool:
        """Return whether an affine map becomes part of what is before it."""
        x = call.inputs[0]
        before = self.producer.get(id(x))
        if before is None or not self.single(x) or self.rules[before].kind not in (KERNEL, AFFINE):
            return False
        inner = innermost(before.operation)
        if self.rules[before].kind == KERNEL and channels_of(inner) is None:
            return False
        linear = name_of_function(getattr(inner, "activation", None) or keras.activations.linear) == "linear"
        return linear and not self.shared(before) and not self.shared(call)

    def shared(self, call: Call) -> bool:
        return sum(other.operation is call.operation for other in self.graph) > 1

    def fused(self, call: Call) -> bool:
        """Return whether a ReLU is part of what is before it."""
        if self.rules[call].kind != RELU:
            return False
        x = call.inputs[0]
        before = self.producer.get(id(x))
        if before is None or not self.single(x):
            return False
        return self.rules[before].kind in (KERNEL, AFFINE) or (
            self.rules[before].kind == INTEGER and name_of(before.operation) in _FUSES_RELU
        )

    def taken_on(self, x: Any) -> bool:
        """Return whether the one call that reads a tensor is fused with what makes it."""
        if not self.single(x):
            return False
        reader = self.readers[id(x)][0]
        return reader in self.folded or self.fused(reader)

    def demand(self, x: Any) -> None:
        """Quantize a tensor, or what it is moved from."""
        if not keras.backend.is_float_dtype(x.dtype) or id(x) in self.tensors:
            return
        before = self.producer.get(id(x))
        kind = self.rules[before].kind if before is not None else FLOAT
        sources = [y for y in before.inputs if keras.backend.is_float_dtype(y.dtype)] if before is not None else []
        if kind == TRANSPARENT and sources and before is not None and before.operation.name not in self.apart:
            for y in sources:
                self.demand(y)
        elif kind in (FLOAT, TRANSPARENT):
            self.tensors[id(x)] = None  # an island's output, the model's input, or whole numbers made real

    def share_range(self, call: Call) -> None:
        """Let the quantizer behind a concatenation or maximum serve for the inputs that nothing else reads."""
        behind = [self.readers[id(x)][0].outputs[0] if self.taken_on(x) else x for x in call.outputs]
        if not all(id(x) in self.tensors for x in behind):
            return
        for x in call.inputs:
            before = self.producer.get(id(x))
            # An island's numbers would be rounded twice, and XNNPACK maps the first integers to the second inexactly.
            movable = before is not None and self.rules[before].kind in (KERNEL, AFFINE, RELU, INTEGER, FLOAT)
            if movable and self.single(x) and self.tensors.get(id(x), 0) is None:
                del self.tensors[id(x)]
