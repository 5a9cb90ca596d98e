"""Where quantizers stand in a graph, decided once from the rules of `op_policies`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras

from tfcompress.core.passthrough import innermost
from tfcompress.graph.index import GraphIndex
from tfcompress.graph.rewrite import Call
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.channel_axes import channels_of
from tfcompress.layers.names import name_of, name_of_function
from tfcompress.quantization.graph.divisors import floats_for_divisors
from tfcompress.quantization.graph.float_layers import LEFT_OUT, WEIGHTS_ALONE
from tfcompress.quantization.graph.layer_precisions import family
from tfcompress.quantization.graph.op_policies import (
    AFFINE,
    CONCATENATE,
    FLOAT,
    INTEGER,
    KERNEL,
    RELU,
    TABLE,
    TRANSPARENT,
    Rule,
    computes,
    rule_of,
)
from tfcompress.quantization.quantize_config import ActivationSpec, QuantizeConfig
from tfcompress.quantization.weights.gates import why_other_scales

_QUANTIZED = (KERNEL, AFFINE, RELU, INTEGER, CONCATENATE)
_CUTS = ("maximum", "minimum")
"""What they cut off of their inputs need not be within a range."""

NOT_CHOSEN = Rule(FLOAT, note=f"float: {LEFT_OUT}")
ONLY_WEIGHTS = Rule(FLOAT, note=f"float: {WEIGHTS_ALONE}")


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
        configs: The config of each tensor that is quantized, by id.
        crossings: {call: {id of an input: config}} of what is on a grid of other bits than the call computes with, and
            is quantized again for it.
        alone: The kernels, and what is folded into them, of which weights alone are quantized, beside others.
    """

    rules: dict[Call, Rule]
    tensors: dict[int, tuple[float, float] | None]
    folded: frozenset[Call]
    configs: Mapping[int, QuantizeConfig] = dataclasses.field(default_factory=dict)
    crossings: Mapping[Call, dict[int, QuantizeConfig]] = dataclasses.field(default_factory=dict)
    alone: frozenset[Call] = frozenset()


def place(
    graph: GraphIndex,
    configs: Mapping[Call, QuantizeConfig] | None = None,
    includes: Callable[[Any], bool] = lambda layer: True,
    apart: Collection[str] = (),
) -> Placement:
    """Decide where quantizers stand.

    Args:
        graph: That of a lowered model.
        configs: How each call is quantized; `None`: no activation is.
        includes: Which layers are quantized.
        apart: The names of operations that only move values, behind which quantizers stand by themselves.

    Returns:
        The placement. Quantized are the inputs and outputs of all that has an integer kernel, except between a kernel
        and what is fused with it; where values are only moved, what is before counts. What is computed together has
        the config of the kernel.
    """
    return _Placer(graph, configs, includes, apart).run()


class _Placer:
    def __init__(
        self,
        graph: GraphIndex,
        configs: Mapping[Call, QuantizeConfig] | None,
        includes: Callable[[Any], bool],
        apart: Collection[str],
    ):
        self.graph = graph
        self.apart = apart
        self.given = configs or {}
        specs = [config.activations for config in self.given.values() if config.activations is not None]
        self.dynamic = any(spec.dynamic for spec in specs)
        self.static = bool(specs) and not self.dynamic
        self.several = len(set(map(family, specs))) > 1
        self.tensors: dict[int, tuple[float, float] | None] = {}
        self.configs: dict[int, QuantizeConfig] = {}
        self.demanded: set[int] = set()
        self.rules = {call: self.rule(call, includes) for call in graph}
        self.rules.update(floats_for_divisors(graph, self.rules))
        self.alone = {call for call in graph if self.rules[call].kind in (KERNEL, TABLE) and self.without_ranges(call)}
        self.folded = self.folds_of()

    def without_ranges(self, call: Call) -> bool:
        """Return whether a call's activations stay float in a model where those of others have ranges."""
        return self.static and self.given[call].activations is None

    def rule(self, call: Call, includes: Callable[[Any], bool]) -> Rule:
        spec = self.given[call].activations if self.given else None
        rule = rule_of(call, spec.bits if spec else 8)
        if spec and not spec.dynamic and rule.kind == INTEGER and name_of(call.operation) == "lstm":
            other = why_other_scales(call.operation, self.given[call].weights)
            rule = Rule(FLOAT, note=f"float fallback: {other}") if other else rule
        if computes(call.operation, rule) and not includes(call.operation):
            return NOT_CHOSEN
        if self.without_ranges(call) and rule.kind not in (KERNEL, TABLE, AFFINE, FLOAT):
            return ONLY_WEIGHTS if computes(call.operation, rule) else rule
        return rule

    def folds_of(self) -> frozenset[Call]:
        """Return the affine maps that are folded; what isn't, and has no ranges, becomes float."""
        found: set[Call] = set()
        for call in self.graph:
            if self.rules[call].kind != AFFINE:
                continue
            if self.folds(call):
                found.add(call)
                if self.graph.producer(call.inputs[0]) in self.alone:
                    self.alone.add(call)
            elif self.without_ranges(call):
                self.rules[call] = ONLY_WEIGHTS
        return frozenset(found)

    def config(self, call: Call) -> QuantizeConfig:
        """Return the config of what computes a call: of the kernel, for what is fused with it or folded into it."""
        while call in self.folded or self.fused(call):
            before = self.graph.producer(call.inputs[0])
            assert before is not None  # it is computed together with that
            call = before
        return self.given[call]

    def placement(self) -> Placement:
        crossings = self.crossings() if self.several else {}
        alone = frozenset(self.alone)
        return Placement(self.rules, self.tensors, self.folded, self.configs, crossings, alone)

    def run(self) -> Placement:
        if self.dynamic:
            for call in self.graph:
                if self.rules[call].kind == KERNEL and not name_of(call.operation).startswith("depthwise"):
                    self.tensors.update((id(x), None) for x in call.inputs)
            return self.placement()
        if not self.static:
            return self.placement()
        for call in self.graph:
            rule = self.rules[call]
            if rule.kind not in _QUANTIZED or call in self.alone:
                continue
            config = self.config(call)
            if call not in self.folded and not self.fused(call):
                for x in call.inputs:
                    self.require(x, config)
            for x in call.outputs:
                if not self.taken_on(x):
                    self.tensors[id(x)] = self.fixed(rule, config.activations)
                    self.configs[id(x)] = config
        for call in self.graph:
            if shares_range(call, self.rules[call]):
                self.share_range(call)
        return self.placement()

    @staticmethod
    def fixed(rule: Rule, spec: ActivationSpec | None) -> tuple[float, float] | None:
        """Return the range that the runtimes fix for an output, for the bits of a specification."""
        if rule.output is None or spec is None:
            return None
        steps = 2.0 ** (spec.bits - 1)
        if spec.symmetric:
            return -(steps - 1) / steps, (steps - 1) / steps
        if rule.output == (-1, 1):
            return -1.0, (steps - 1) / steps
        return 0.0, (2 * steps - 1) / (2 * steps)

    def crossings(self) -> dict[Call, dict[int, QuantizeConfig]]:
        """Return the inputs of calls that are on a grid of other bits than the call's, each with the call's config."""
        found: dict[Call, dict[int, QuantizeConfig]] = {}
        for call in self.graph:
            together = call in self.folded or self.fused(call)
            if self.rules[call].kind not in _QUANTIZED or call in self.alone or together:
                continue
            config = self.config(call)
            for x in call.inputs:
                here = self.family_at(x)
                if here is not None and config.activations is not None and here != family(config.activations):
                    found.setdefault(call, {})[id(x)] = config
        return found

    def family_at(self, x: Any) -> tuple[int, bool] | None:
        """Return bits and symmetry of the grid that a tensor, or what it is moved from, is on; `None`: of none."""
        before = self.graph.producer(x)
        spec = self.configs[id(x)].activations if id(x) in self.configs else None
        if spec is None and before is not None and self.rules[before].kind == TABLE and before not in self.alone:
            spec = self.given[before].activations
        if spec is not None:
            return family(spec)
        if before is not None and self.rules[before].kind == TRANSPARENT and before.inputs:
            return self.family_at(before.inputs[0])
        return None

    def single(self, x: Any) -> bool:
        """Return whether exactly one call reads a tensor."""
        return self.graph.only_reader(x) is not None

    def folds(self, call: Call) -> bool:
        """Return whether an affine map becomes part of what is before it."""
        x = call.inputs[0]
        before = self.graph.producer(x)
        if before is None or not self.single(x) or self.rules[before].kind not in (KERNEL, AFFINE):
            return False
        inner = innermost(before.operation)
        if self.rules[before].kind == KERNEL and channels_of(inner) is None:
            return False
        linear = name_of_function(getattr(inner, "activation", None) or keras.activations.linear) == "linear"
        return linear and not self.shared(before) and not self.shared(call)

    def shared(self, call: Call) -> bool:
        return self.graph.times(call.operation) > 1

    def fused(self, call: Call) -> bool:
        """Return whether a ReLU is part of what is before it."""
        if self.rules[call].kind != RELU:
            return False
        x = call.inputs[0]
        before = self.graph.producer(x)
        if before is None or not self.single(x) or before in self.alone:
            return False
        return self.rules[before].kind in (KERNEL, AFFINE) or (
            self.rules[before].kind == INTEGER and traits_of(before.operation).channels == "nary"
        )

    def taken_on(self, x: Any) -> bool:
        """Return whether the one call that reads a tensor is fused with what makes it."""
        reader = self.graph.only_reader(x)
        return reader is not None and (reader in self.folded or self.fused(reader))

    def require(self, x: Any, config: QuantizeConfig) -> None:
        """Quantize a tensor, or what it is moved from; what several require, with the most bits of theirs."""
        if not keras.backend.is_float_dtype(x.dtype):
            return
        if id(x) in self.tensors:
            old, new = (one.activations for one in (self.configs[id(x)], config))
            if id(x) in self.demanded and old is not None and new is not None and new.bits > old.bits:
                self.configs[id(x)] = config
            return
        before = self.graph.producer(x)
        kind = self.rules[before].kind if before is not None and before not in self.alone else FLOAT
        sources = [y for y in before.inputs if keras.backend.is_float_dtype(y.dtype)] if before is not None else []
        if kind == TRANSPARENT and sources and before is not None and before.operation.name not in self.apart:
            for y in sources:
                self.require(y, config)
        elif kind in (FLOAT, TRANSPARENT):
            self.tensors[id(x)] = None  # a float layer's output, the model's input, or whole numbers made real
            self.configs[id(x)] = config
            self.demanded.add(id(x))

    def share_range(self, call: Call) -> None:
        """Let the quantizer behind a concatenation or maximum serve for the inputs that nothing else reads."""
        behind = [self.graph.readers(x)[0].outputs[0] if self.taken_on(x) else x for x in call.outputs]
        if not all(id(x) in self.tensors for x in behind):
            return
        own = self.config(call).activations
        for x in call.inputs:
            before = self.graph.producer(x)
            # A float layer's numbers would be rounded twice, and XNNPACK maps the first integers to the second
            # inexactly.
            movable = before is not None and self.rules[before].kind in (KERNEL, AFFINE, RELU, INTEGER, FLOAT)
            if movable and self.single(x) and self.tensors.get(id(x), 0) is None:
                spec = self.configs[id(x)].activations
                if own is not None and spec is not None and family(spec) == family(own):
                    del self.tensors[id(x)], self.configs[id(x)]
