"""What surrounds a layer in its graph: the quantizers of its inputs, what is folded into it, the quantizer behind."""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.keras_private import inbound_nodes, outbound_nodes, producer, producing_node
from tfcompress.core.passthrough import PassThrough, innermost
from tfcompress.graph.affine_forms import constant_map
from tfcompress.graph.rewrite import Call, call_of
from tfcompress.layers.channel_axes import channels_of
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.graph.op_policies import AFFINE, RELU, rule_of
from tfcompress.quantization.graph.placement import shares_range
from tfcompress.quantization.graph.quantizer_sources import quantizer_of
from tfcompress.quantization.numerics.wide import WIDE

Tensor = Any


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What surrounds a layer that is called once, or alike each time.

    Attributes:
        quantizers: Those that its inputs, or what they are moved from, come from; `None` for an input that comes from
            none.
        affine: The affine maps that are folded into it.
        behind: The quantizer that its output, with these maps and a ReLU, comes to, also by way of a concatenation that
            shares its range; `None`: none, or there are several.
    """

    quantizers: tuple[ActivationQuantizer | None, ...]
    affine: list[Call]
    behind: ActivationQuantizer | None

    @property
    def quantizer(self) -> ActivationQuantizer | None:
        """That of the first input."""
        return self.quantizers[0]


# Found once, by the layer: how often it is called; and what holds the layer, by weak references, or it would never be
# freed: its quantizers, the one behind, the nodes of the affine maps.
_Held = tuple[tuple[Any, ...], Any, tuple[Any, ...]]
_found: weakref.WeakKeyDictionary[PassThrough, tuple[int, _Held | None]] = weakref.WeakKeyDictionary()


def surroundings(layer: PassThrough) -> Surroundings | None:
    """Return what surrounds a layer in the graph in which it stands.

    `None` if that is unknown: a layer that is called on differently quantized inputs has no one answer.
    """
    nodes = inbound_nodes(layer)
    count, held = _found.get(layer, (-1, None))
    if count == len(nodes):
        if held is None:
            return None
        known = _seen(held)
        if known is not None:
            return known
    answers = [_around(node) for node in nodes]
    kinds = {(tuple(map(id, quantizers)), id(behind)) for quantizers, behind, _ in answers}
    held = _weak(answers[0]) if len(kinds) == 1 else None
    _found[layer] = (len(nodes), held)
    return None if held is None else _seen(held)


def _weak(answer: _Held) -> _Held:
    quantizers, behind, affine = answer

    def reference(x: Any) -> Any:
        return None if x is None else weakref.ref(x)

    return tuple(map(reference, quantizers)), reference(behind), tuple(map(reference, affine))


def _seen(held: _Held) -> Surroundings | None:
    quantizers, behind, affine = held
    references = [one for one in (*quantizers, behind, *affine) if one is not None]
    if any(one() is None for one in references):
        return None

    def of(reference: Any) -> Any:
        return None if reference is None else reference()

    return Surroundings(tuple(map(of, quantizers)), [call_of(of(one)) for one in affine], of(behind))


def _around(node: Any) -> _Held:
    """Return the quantizers of a call's inputs, the one behind, and the nodes of the affine maps that are folded."""
    quantizers = tuple(_static(quantizer_of(x, _producer)) for x in node.input_tensors)
    affine: list[Any] = []
    output = node.outputs[0]
    while (reader := _only_reader(output)) is not None and rule_of(reader).kind == AFFINE:
        if not affine and channels_of(node.operation) is None and rule_of(call_of(node)).kind != AFFINE:
            break
        affine.append(reader.node)
        output = reader.outputs[0]
    return quantizers, _static(quantizer_behind(output)), tuple(affine)


def _static(quantizer: ActivationQuantizer | None) -> ActivationQuantizer | None:
    return None if quantizer is None or quantizer.spec.dynamic else quantizer


def quantizer_behind(x: Any) -> ActivationQuantizer | None:
    """Return the quantizer of what reads a tensor, behind a ReLU too, or a concatenation that shares its range.

    `None` if several things read it.
    """
    reader = _only_reader(x)
    if reader is None or isinstance(reader.operation, ActivationQuantizer):
        return None if reader is None else reader.operation
    rule = rule_of(reader)
    return quantizer_behind(reader.outputs[0]) if rule.kind == RELU or shares_range(reader, rule) else None


def _producer(x: Any) -> Call | None:
    operation = producer(x)
    if not inbound_nodes(operation) or isinstance(operation, keras.layers.InputLayer):
        return None
    return call_of(producing_node(x))


def _only_reader(x: Any) -> Call | None:
    operation = producer(x)
    readers = [node for node in outbound_nodes(operation) if any(tensor is x for tensor in node.input_tensors)]
    return call_of(readers[0]) if len(readers) == 1 else None


def as_one_map(affine: list[Call]) -> tuple[Tensor, Tensor] | None:
    """Return affine maps, one behind the other, as one: its scale and offset; `None` if one isn't known."""
    scale, offset = ops.ones((), WIDE), ops.zeros((), WIDE)
    for call in affine:
        found = scale_and_offset(call)
        if found is None:
            return None
        scale, offset = scale * found[0], offset * found[0] + found[1]
    return scale, offset


def scale_and_offset(call: Call) -> tuple[Tensor, Tensor] | None:
    """Return the scale and offset of an affine map as float64 tensors, as the current weights make them.

    They are the numbers that the exporters fold into kernels, bit by bit.
    """
    constant = constant_map(call)
    if constant is not None:
        return _double(constant[0]), _double(constant[1])
    return scale_of_layer(call.operation)


def scale_of_layer(layer: Any) -> tuple[Tensor, Tensor] | None:
    """Return the scale and offset of a layer that is an affine map; those of a hard sigmoid before it is cut off."""
    inner = innermost(layer)
    name = name_of(inner)
    if name == "hardsigmoid":
        return _double(1 / 6), _double(0.5)
    if name == "batchnormalization":
        scale = 1.0 / ops.sqrt(_double(inner.moving_variance.value) + inner.epsilon)
        scale = scale if inner.gamma is None else scale * _double(inner.gamma.value)
        offset = -_double(inner.moving_mean.value) * scale
        offset = offset if inner.beta is None else offset + _double(inner.beta.value)
        return _double(ops.cast(scale, "float32")), _double(ops.cast(offset, "float32"))
    if name == "rescaling":
        return _double(inner.scale), _double(inner.offset)
    if name == "normalization":
        deviation = ops.maximum(ops.sqrt(_double(inner.variance)), keras.config.epsilon())
        mean, deviation = (ops.reshape(part, (-1,)) for part in (_double(inner.mean), deviation))
        return 1.0 / deviation, -mean / deviation
    if name == "layerscale":
        return _double(inner.gamma.value), ops.zeros((), WIDE)
    return None


def _double(x: Any) -> Tensor:
    """Return a tensor, an array or a number, float64; a number alone would become a float32 tensor first."""
    return ops.cast(np.asarray(x) if isinstance(x, float) else x, WIDE)
