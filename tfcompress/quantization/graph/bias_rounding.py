"""Kernels whose biases are rounded as integer runtimes round them: to whole units of the 32-bit accumulator."""

from __future__ import annotations

import contextlib
import contextvars
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from tfcompress.core.keras_private import inbound_nodes, outbound_nodes, producer, producing_node
from tfcompress.core.passthrough import PassThrough, innermost
from tfcompress.core.wrapper import CompressedLayer, materialized, wrapped_layers
from tfcompress.graph.affine_forms import constant_map
from tfcompress.graph.rewrite import Call, call_of
from tfcompress.layers.channel_axes import channels_of
from tfcompress.layers.einsum_equations import matrix_form
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.graph.op_policies import AFFINE, rule_of
from tfcompress.quantization.graph.quantizer_sources import quantizer_of
from tfcompress.quantization.numerics.tensorflow_kernels import at_hand
from tfcompress.quantization.weights.uniform import WeightQuantizer

Tensor = Any

_ranges_unknown: contextvars.ContextVar[bool] = contextvars.ContextVar("ranges_unknown", default=False)


# What a bias is rounded with beside a range, by the wrapper's `id`, where it was computed before.
_sums: contextvars.ContextVar[Mapping[int, tuple[Tensor, Tensor] | None] | None] = contextvars.ContextVar(
    "sums", default=None
)


@contextlib.contextmanager
def ranges_unknown() -> Iterator[None]:
    """Let no bias be rounded in the block whose unit depends on a range that is found from data."""
    token = _ranges_unknown.set(True)
    try:
        yield
    finally:
        _ranges_unknown.reset(token)


@contextlib.contextmanager
def weights_unchanged(model: keras.Model) -> Iterator[None]:
    """Transform the weights of a model once for all calls of it in the block, in inference, whatever their ranges are.

    Args:
        model: A model whose weights and biases stay in the block.
    """
    wrappers = wrapped_layers(model)
    found = {}
    for layer in wrappers:
        around = surroundings(layer) if isinstance(layer, QuantizedLayer) else None
        if around is not None:
            found[id(layer)] = layer.sums(around[1])
    token = _sums.set(found)
    try:
        with materialized(wrappers, [layer.transformed() for layer in wrappers]):
            yield
    finally:
        _sums.reset(token)


@keras.saving.register_keras_serializable(package="tfcompress")
class QuantizedLayer(CompressedLayer):
    """A wrapper of a kernel with quantized weights, which in inference rounds the bias as the runtimes do.

    An integer convolution adds its bias to sums of products of integers, so that the bias is a multiple
    of input scale * weight scale (TFLite's 8-bit quantization specification). In each layer that is an
    error of a fraction of a per cent of the output's scale, always the same way; in a deep network it adds up. What is
    rounded is the bias together with the batch normalization behind the layer, which the exporters fold into it.
    """

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Call the layer with transformed weights and, in inference, with a bias of whole accumulator units."""
        outputs = super().call(inputs, *args, training=training, **kwargs)
        if training:
            return outputs
        rounding = self.rounding()
        return outputs if rounding is None else outputs + ops.cast(rounding, outputs.dtype)

    def rounding(self) -> Tensor | None:
        """Return what rounding changes in the bias, float32, a value for each channel of the output.

        `None` where the input isn't quantized, or nothing is known of the channels.
        """
        around = surroundings(self)
        if around is None:
            return None
        quantizer, affine, _ = around
        if quantizer.learns and _ranges_unknown.get():
            return None
        known = _sums.get()
        sums = self.sums(affine) if known is None or id(self) not in known else known[id(self)]
        if sums is None:
            return None
        total, scales = sums
        units = scales * quantizer.scale + ops.zeros_like(total)
        safe = ops.where(units > 0, units, 1.0)
        rounded = ops.where(units > 0, ops.round(total / safe) * safe, total)
        change = rounded - total
        if quantizer.learns:
            change = ops.where(ops.convert_to_tensor(quantizer.counts.value)[0] > 0, change, 0.0)
        return ops.stop_gradient(change)

    def sums(self, affine: list[Call]) -> tuple[Tensor, Tensor] | None:
        """Return the bias with the affine maps behind it, and the weight's scale for each output channel.

        `None` where one isn't known.
        """
        scales = self._scales()
        if scales is None:
            return None
        bias = getattr(self.layer, "bias", None)
        total = ops.zeros_like(scales) if bias is None else ops.cast(bias.value, "float32") + ops.zeros_like(scales)
        folded = with_maps(total, affine)
        return None if folded is None else (folded[0], scales)

    def _scales(self) -> Tensor | None:
        chosen = [t for _, t in self.transforms if isinstance(t, WeightQuantizer)]
        if len(chosen) != 1:
            return None
        transform = chosen[0]
        scale = transform.scale(at_hand(ops.cast(self.value_before(transform), "float32")))
        if name_of(self.layer) == "einsumdense":
            form = matrix_form(self.layer)
            made = form.kernel_axes[form.summed :] if form else ()
            plain = form is not None and form.output_axes == tuple(range(len(form.output_axes)))
            if not plain or tuple(made) != tuple(sorted(made)):
                return None
        elif transform.axis is not None:
            scale = ops.reshape(scale, (-1,))
        return scale


# What surrounds a wrapper in its graph, found once: how often it is called; its quantizer, its own call and those of
# the affine maps behind. All of them hold the wrapper: it would never be freed if they were held here.
_found: weakref.WeakKeyDictionary[PassThrough, tuple[int, tuple[weakref.ref[Any], ...] | None]] = (
    weakref.WeakKeyDictionary()
)


def with_maps(offset: Tensor, affine: list[Call]) -> tuple[Tensor, Tensor] | None:
    """Return an offset with those of the affine maps behind it, and the factor of these; `None` if one isn't known.

    What is behind, scale * y + offset, adds offset / scale.
    """
    factor = ops.ones(())
    for call in affine:
        found = scale_and_offset(call)
        if found is None:
            return None
        factor = factor * found[0]
        offset = offset + found[1] / ops.where(factor == 0, 1.0, factor)
    return offset, factor


def surroundings(layer: PassThrough) -> tuple[ActivationQuantizer, list[Call], Any] | None:
    """Return the quantizer of a layer's input, the affine maps that are folded into it, and their output.

    They are those of the graph in which the layer stands. `None` if they are unknown: a layer that is called on
    differently quantized inputs has no one answer.
    """
    nodes = inbound_nodes(layer)
    count, known = _found.get(layer, (-1, None))
    if count == len(nodes) and known is None:
        return None
    held: list[Any] = [reference() for reference in known or ()]
    if count != len(nodes) or any(x is None for x in held):
        answers = [found for node in nodes if (found := _around(node)) is not None]
        held = list(answers[0]) if len({id(answer[0]) for answer in answers}) == 1 else []
        _found[layer] = (len(nodes), tuple(map(weakref.ref, held)) if held else None)
    if not held:
        return None
    quantizer, node, *affine = held
    return quantizer, list(map(call_of, affine)), (affine[-1] if affine else node).outputs[0]


def _around(node: Any) -> tuple[Any, ...] | None:
    """Return the quantizer of a call's input, the call and the affine maps behind it, as Keras records calls."""
    quantizer = quantizer_of(node.input_tensors[0], _producer)
    if quantizer is None or quantizer.spec.dynamic:
        return None
    affine: list[Any] = []
    output = node.outputs[0]
    while (reader := _only_reader(output)) is not None and rule_of(reader).kind == AFFINE:
        if not affine and channels_of(node.operation) is None and rule_of(call_of(node)).kind != AFFINE:
            break
        affine.append(reader.node)
        output = reader.outputs[0]
    return quantizer, node, *affine


def _producer(x: Any) -> Call | None:
    operation = producer(x)
    if not inbound_nodes(operation) or isinstance(operation, keras.layers.InputLayer):
        return None
    return call_of(producing_node(x))


def _only_reader(x: Any) -> Call | None:
    operation = producer(x)
    readers = [node for node in outbound_nodes(operation) if any(tensor is x for tensor in node.input_tensors)]
    return call_of(readers[0]) if len(readers) == 1 else None


def scale_and_offset(call: Call) -> tuple[Tensor, Tensor] | None:
    """Return the scale and offset of an affine map as tensors, as the current weights make them."""
    constant = constant_map(call)
    if constant is not None:
        return ops.cast(constant[0], "float32"), ops.cast(constant[1], "float32")
    return scale_of_layer(call.operation)


def scale_of_layer(layer: Any) -> tuple[Tensor, Tensor] | None:
    """Return the scale and offset of a layer that is an affine map; those of a hard sigmoid before it is cut off."""
    inner = innermost(layer)
    name = name_of(inner)
    if name == "hardsigmoid":
        return ops.full((), 1 / 6), ops.full((), 0.5)
    if name == "batchnormalization":
        deviation = ops.sqrt(ops.cast(inner.moving_variance.value, "float32") + inner.epsilon)
        scale = 1.0 / deviation if inner.gamma is None else ops.cast(inner.gamma.value, "float32") / deviation
        beta = 0.0 if inner.beta is None else ops.cast(inner.beta.value, "float32")
        return scale, beta - ops.cast(inner.moving_mean.value, "float32") * scale
    if name == "rescaling":
        return ops.cast(inner.scale, "float32"), ops.cast(inner.offset, "float32")
    if name == "normalization":
        deviation = ops.maximum(ops.sqrt(ops.cast(inner.variance, "float32")), keras.config.epsilon())
        mean, deviation = (ops.reshape(part, (-1,)) for part in (ops.cast(inner.mean, "float32"), deviation))
        return 1.0 / deviation, -mean / deviation
    if name == "layerscale":
        return ops.cast(inner.gamma.value, "float32"), ops.zeros(())
    return None
