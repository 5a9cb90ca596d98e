"""The graph with its quantizers: kernels in wrappers, tensors on grids, as the placement says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import keras
from keras.layers import Layer

from tfcompress.core.keras_private import producer
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import with_transforms
from tfcompress.graph import kernel_positions
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.index import index_of
from tfcompress.graph.naming import free
from tfcompress.graph.rewrite import Call, rewritten
from tfcompress.layers.names import base_name_of, name_of
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.graph.affine_maps import QuantizedMap
from tfcompress.quantization.graph.attention_masks import is_scored
from tfcompress.quantization.graph.batch_norm_freezing import FreezingBatchNorm
from tfcompress.quantization.graph.channel_slices import layer_of, tensors_of
from tfcompress.quantization.graph.float_inputs import Unrounded
from tfcompress.quantization.graph.float_layers import LEFT_OUT, WEIGHTS_ALONE, KeptFloat
from tfcompress.quantization.graph.integer_lstm import IntegerLSTM
from tfcompress.quantization.graph.integer_operator import IntegerOperator, is_simulated
from tfcompress.quantization.graph.layer_precisions import (
    BY_ITS_CONFIG,
    LayerPrecisions,
    is_left_alone,
)
from tfcompress.quantization.graph.learned_quantizer import LearnedQuantizer
from tfcompress.quantization.graph.op_policies import AFFINE, CONCATENATE, INTEGER, KERNEL, RELU, TABLE, TRANSPARENT
from tfcompress.quantization.graph.placement import NOT_CHOSEN, ONLY_WEIGHTS, Placement, place
from tfcompress.quantization.graph.quantized_layer import QuantizedLayer
from tfcompress.quantization.graph.quantizer_sources import reached_by_input
from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.quantization.weights.float16 import Float16Weight
from tfcompress.quantization.weights.gates import GateQuantizer
from tfcompress.quantization.weights.quantizer import weight_quantizer

MARGIN = 1 / 254
"""Share by which a learned range around zero is widened where an input reaches it, which may be pixels / 127.5 - 1."""


def insert_quantizers(
    lowered: FlatGraph, precisions: LayerPrecisions, includes: Callable[[Any], bool], apart: Collection[str]
) -> FlatGraph:
    """Return a lowered graph with its kernels in wrappers and a quantizer behind each tensor of the placement.

    Args:
        lowered: The graph; its layers are used in the result.
        precisions: How kernels and activations are quantized.
        includes: Which layers are quantized.
        apart: Names of operations that only move values, behind which quantizers stand by themselves.
    """
    return _Inserter(lowered, precisions, includes, apart).run()


class _Inserter:
    """Wraps kernels and puts quantizers behind tensors, as a placement says."""

    def __init__(self, lowered: FlatGraph, precisions: LayerPrecisions, includes: Any, apart: Collection[str]):
        self.lowered = lowered
        self.precisions = precisions
        self.includes = includes
        self.graph = index_of(lowered)
        self.configs = precisions.of_calls(self.graph)
        configs = None if precisions.common.float16 else self.configs
        self.placement: Placement = place(self.graph, configs, includes, apart)
        self.names = {call.operation.name for call in self.graph} | {x.name for x in lowered.inputs}
        self.layers: dict[int, Layer] = {}
        self.wrapped: dict[int, Layer] = {}
        self.quantizers: dict[int, ActivationQuantizer] = {}
        self.again: dict[tuple[int, QuantizeConfig], Any] = {}
        self.crossed: dict[tuple[int, QuantizeConfig], ActivationQuantizer] = {}
        self.raw = Unrounded(self.graph, self.placement, apart)

    def run(self) -> FlatGraph:
        return rewritten(self.lowered, self.visit, self.enter)

    def enter(self, x: Any) -> Any:
        return x if self.on_demand else self.quantizer(x, x, x.name)

    @property
    def on_demand(self) -> bool:
        return self.precisions.dynamic

    def visit(self, call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        arguments, keywords = self.raw.given(call, arguments, keywords)
        arguments, keywords = self.crossing(call, arguments, keywords)
        operation = self.wrap(call)
        if operation is not call.operation and not isinstance(call.operation, Layer):
            arguments, keywords = tensors_of(arguments, keywords), {}
        if self.on_demand and self.placement.rules[call].kind == KERNEL:
            old, config = call.inputs[0], self.configs[call]
            if id(old) in self.placement.tensors:  # only this reader sees the quantized tensor
                key = id(old), config
                if key not in self.again:
                    self.again[key] = self.inserted(old, arguments[0], call.operation.name, config)(arguments[0])
                arguments = (self.again[key], *arguments[1:])
        outputs = operation(*arguments, **keywords)
        if self.on_demand:
            return outputs
        flat = keras.tree.flatten(outputs)
        made = [self.quantizer(old, new, call.operation.name) for old, new in zip(call.outputs, flat, strict=True)]
        return keras.tree.pack_sequence_as(outputs, made)

    def crossing(
        self, call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call, those quantized again that are on a grid of other bits."""
        configs = self.placement.crossings.get(call)
        if configs is None:
            return arguments, keywords

        def crossed(old: Any, new: Any) -> Any:
            if not keras.utils.is_keras_tensor(old) or id(old) not in configs:
                return new
            key = id(old), configs[id(old)]
            if key not in self.again:
                source = str(producer(old).name)
                self.crossed[key] = self.inserted(old, new, source, configs[id(old)], again=True)
                self.again[key] = self.crossed[key](new)
            return self.again[key]

        given = tuple(call.arguments), dict(call.keywords)
        both = keras.tree.map_structure(crossed, given, (tuple(arguments), dict(keywords)))
        return tuple(both[0]), dict(both[1])

    def quantizer(self, old: Any, new: Any, source: str) -> Any:
        """Put a quantizer behind a tensor of the new graph, if the old one is in the placement."""
        if id(old) not in self.placement.tensors:
            return new
        maker = self.graph.producer(old)
        if maker is not None and self.placement.rules[maker].same:
            before = self.quantizer_of(maker.inputs[0], self.placement.configs[id(old)])
            if before is not None:
                self.quantizers[id(old)] = before
                return before(new, observe=False)
        self.raw.note(old, new)
        self.quantizers[id(old)] = self.inserted(old, new, source, self.placement.configs[id(old)])
        return self.quantizers[id(old)](new)

    def inserted(
        self, old: Any, new: Any, source: str, config: QuantizeConfig, again: bool = False
    ) -> ActivationQuantizer:
        """Return a new quantizer for a tensor; `again`: for one that is on another grid already."""
        assert config.activations is not None
        maker = self.graph.producer(old)
        name = free(f"{source}_quantizer", self.names)
        self.names.add(name)
        fixed = None if again else self.placement.tensors[id(old)]
        spec, made = config.activations, ActivationQuantizer
        if spec.trained and fixed is None:
            made = LearnedQuantizer
            if reached_by_input(old, self.graph.producer):  # pixels keep the range in which each lies on the grid
                spec, made = dataclasses.replace(spec, range="minmax"), ActivationQuantizer
        return made(
            spec,
            fixed=fixed,
            freeze_step=config.freeze_ranges_step,
            source=source,
            margin=self.margin(old),
            nonnegative=maker is not None and self.placement.rules[maker].kind == RELU,
            scores=is_scored(old, self.graph, lambda one: self.placement.rules[one].kind),
            name=name,
        )

    def quantizer_of(self, x: Any, config: QuantizeConfig) -> ActivationQuantizer | None:
        """Return the quantizer of a tensor, or of what it is moved from, where something with a config reads it."""
        if (id(x), config) in self.crossed:
            return self.crossed[id(x), config]
        maker = self.graph.producer(x)
        if id(x) in self.quantizers or maker is None or self.placement.rules[maker].kind != TRANSPARENT:
            return self.quantizers.get(id(x))
        return self.quantizer_of(maker.inputs[0], config)

    def margin(self, x: Any) -> float:
        """Return by how much a range of a tensor that is learned without calibration is widened.

        What maps whole numbers to a symmetric range, as pixels to -1..1, puts each of them between two integers.
        """
        return MARGIN if reached_by_input(x, self.graph.producer) else 0.0

    def wrap(self, call: Call) -> Any:
        layer = call.operation
        if not isinstance(layer, Layer):
            if not self.is_map(call) and not self.is_integer_operator(call):
                return layer
            layer = self.layers.setdefault(id(layer), layer_of(call))
        if id(layer) not in self.wrapped:
            self.wrapped[id(layer)] = self.wrapper(layer, call)
            if self.is_map(call):
                self.wrapped[id(layer)] = QuantizedMap(self.wrapped[id(layer)], max(8, self.configs[call].weights.bits))
                self.wrapped[id(layer)].build()
            elif self.is_integer_operator(call):
                self.wrapped[id(layer)] = IntegerOperator(self.wrapped[id(layer)])
                self.wrapped[id(layer)].build()
        return self.wrapped[id(layer)]

    def is_map(self, call: Call) -> bool:
        """Return whether a call becomes a depthwise convolution, whose offset is rounded."""
        rule, integer = self.placement.rules[call], bool(self.placement.tensors) and not self.on_demand
        if isinstance(call.operation, CompressedLayer) or not integer:
            return False
        hard = rule.kind == INTEGER and name_of(call.operation) == "hardsigmoid"
        return hard or (rule.kind == AFFINE and call not in self.placement.folded)

    def is_integer_operator(self, call: Call) -> bool:
        """Return whether a call computes in integers without a kernel, and it is known how runtimes round there."""
        kind, integer = self.placement.rules[call].kind, bool(self.placement.tensors) and not self.on_demand
        alone = kind == RELU and self.quantizer_of(call.inputs[0], self.configs[call]) is not None
        return integer and (alone or kind in (INTEGER, CONCATENATE)) and is_simulated(call)

    def wrapper(self, layer: Layer, call: Call) -> Layer:
        rule = self.placement.rules[call]
        wrapped = self.transformed(layer, call)
        if rule == ONLY_WEIGHTS:
            reason = WEIGHTS_ALONE
        elif rule == NOT_CHOSEN and not kernel_positions(layer) and self.placement.tensors:
            reason = BY_ITS_CONFIG if is_left_alone(layer, self.precisions) else LEFT_OUT
        else:
            return wrapped
        kept = KeptFloat(wrapped, reason)
        kept.build()
        return kept

    def transformed(self, layer: Layer, call: Call) -> Layer:
        config, kind = self.configs[call], self.placement.rules[call].kind
        step = config.freeze_batch_norm_step
        if step is not None and base_name_of(layer) == "batchnormalization":
            frozen = FreezingBatchNorm(layer, step)
            frozen.build()
            return frozen
        positions = kernel_positions(layer)
        if not positions or not self.includes(layer):
            return layer
        if config.float16:
            return with_transforms(layer, [(position, Float16Weight()) for position in positions])
        if kind == INTEGER and name_of(layer) == "lstm" and config.activations and not config.activations.dynamic:
            quantizers = [(at, GateQuantizer(config.weights, (1,), config.activations)) for at in positions]
            return with_transforms(layer, quantizers, IntegerLSTM)
        per_channel = config.weights.granularity != "per_tensor" and kind != TABLE
        return with_transforms(
            layer,
            [
                (at, weight_quantizer(layer, at, config.weights, config.activations, per_channel=per_channel))
                for at in positions
            ],
            QuantizedLayer if kind == KERNEL and call not in self.placement.alone else None,
        )
