"""Kernels that in inference compute what integer runtimes compute: whole numbers, rounded as the runtime does it."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from tfcompress.core.wrapper import CompressedLayer, materialized, wrapped_layers
from tfcompress.layers.names import name_of, name_of_function
from tfcompress.quantization.arithmetic.base import Arithmetic
from tfcompress.quantization.graph.grids_at_hand import (
    are_ranges_unknown,
    arithmetic_between,
    has_range,
    known,
    whole_numbers,
)
from tfcompress.quantization.graph.kernel_integers import KernelIntegers, kernel_integers
from tfcompress.quantization.graph.surroundings import Surroundings, surroundings
from tfcompress.quantization.numerics.custom_gradient import differentiable
from tfcompress.quantization.numerics.fake_quant import upstream_of
from tfcompress.quantization.numerics.wide import WIDE

Tensor = Any

EXACT = 2.0**24
"""Whole numbers up to there are float32 numbers, and so are sums of products, with the bias, that stay below."""

PART = 16.0
"""Weights are so many times a part, and the rest, where their sums may be larger."""

PRODUCTS = (
    *("dense", "einsumdense", "conv1d", "conv2d", "depthwiseconv1d", "depthwiseconv2d"),
    *("conv1dtranspose", "conv2dtranspose"),
)
"""What is linear in its kernel and its input."""

# The integers of kernels, by the wrapper's `id`, where they were computed before.
_integers: contextvars.ContextVar[Mapping[int, KernelIntegers | None] | None] = contextvars.ContextVar(
    "integers", default=None
)


@contextlib.contextmanager
def weights_unchanged(model: keras.Model) -> Iterator[None]:
    """Transform the weights of a model once for all calls of it in the block, in inference, whatever their ranges are.

    Args:
        model: A model whose weights and biases stay in the block.
    """
    wrappers = wrapped_layers(model)
    with materialized(wrappers, [layer.transformed() for layer in wrappers]):
        found = {}
        for layer in wrappers:
            around = surroundings(layer) if isinstance(layer, QuantizedLayer) else None
            if around is not None:
                found[id(layer)] = kernel_integers(layer, around)
        token = _integers.set(found)
        try:
            yield
        finally:
            _integers.reset(token)


@keras.saving.register_keras_serializable(package="tfcompress")
class QuantizedLayer(CompressedLayer):
    """A wrapper of a kernel with quantized weights, which in inference computes as the runtimes do.

    Its input lies on a grid and so do its weights: what it sums are products of whole numbers, which float32 holds
    exactly up to 2^24. Larger sums are computed in two parts, and with the bias added in float64. The bias, with the
    batch normalization behind the layer that the exporters fold into it, is a multiple of input scale * weight scale
    (TFLite's 8-bit quantization specification). The sum is brought to the grid of the quantizer behind as the runtime
    does it that the quantizer's specification names; what is returned lies on that grid once the batch normalization
    has been applied to it.

    Where the quantizer behind isn't known, or has no range, the bias alone is rounded. Gradients are those of the
    layer without rounding.
    """

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Call the layer with transformed weights and, in inference, as a runtime computes it."""
        around = None if training else surroundings(self)
        if around is None or around.quantizer is None or are_ranges_unknown():
            return super().call(inputs, *args, training=training, **kwargs)
        table = _integers.get()
        kernel = kernel_integers(self, around) if table is None or id(self) not in table else table[id(self)]

        def plain() -> Any:
            outputs = super(QuantizedLayer, self).call(inputs, *args, training=training, **kwargs)
            return outputs if kernel is None else outputs + ops.cast(_rounding(kernel, around), outputs.dtype)

        arithmetic = arithmetic_between(around) if kernel is not None and self._is_product(inputs) else None
        if kernel is None or arithmetic is None or args or kwargs:
            return plain()
        return known(around, lambda: self._in_integers(inputs, kernel, around, arithmetic), plain)

    def _is_product(self, inputs: Any) -> bool:
        layer = self.layer
        linear = name_of_function(getattr(layer, "activation", None) or keras.activations.linear) == "linear"
        plain = linear and getattr(layer, "activity_regularizer", None) is None
        dtypes = {keras.backend.standardize_dtype(inputs.dtype), layer.compute_dtype}
        return plain and name_of(layer) in PRODUCTS and dtypes == {"float32"}

    def _in_integers(
        self, inputs: Tensor, kernel: KernelIntegers, around: Surroundings, arithmetic: Arithmetic
    ) -> Tensor:
        quantizer = around.quantizer
        assert quantizer is not None
        x = whole_numbers(inputs, quantizer.grid_now()[0])

        def sums(weights: Tensor) -> Tensor:
            return self.called_with(self._in_place_of(kernel, weights), x, training=False)

        units, of_weights = kernel.bias_units(quantizer.grid_now()[0])

        def requantized(whole: Tensor) -> Tensor:
            return self._requantized(whole, (units, of_weights), kernel, around, arithmetic)

        def in_parts() -> Tensor:
            part = kernel.weights / PART
            part = part + ops.stop_gradient(ops.round(part) - part)
            most, rest = (ops.cast(sums(w), WIDE) for w in (part, kernel.weights - PART * part))
            return requantized(PART * most + rest)

        reach = float(2**quantizer.spec.bits - 1)
        added = ops.cast(ops.max(ops.abs(units)), "float32")
        if kernel.most * reach >= EXACT:
            return ops.cond(kernel.largest * reach + added < EXACT, lambda: requantized(sums(kernel.weights)), in_parts)
        small = sums(kernel.weights)
        if getattr(self.layer, "bias", None) is None and not around.affine:
            return requantized(small)
        fits = kernel.most * reach + added < EXACT
        return ops.cond(fits, lambda: requantized(small), lambda: requantized(ops.cast(small, WIDE)))

    def _in_place_of(self, kernel: KernelIntegers, weights: Tensor) -> dict[int, Tensor]:
        """Return what the layer sees in place of its weights: whole numbers, and no bias."""
        bias = getattr(self.layer, "bias", None)
        values = {kernel.place: weights}
        values.update((at, ops.zeros(w.shape)) for at, w in enumerate(self.layer.weights) if id(w) == id(bias))
        return values

    def _requantized(
        self,
        sums: Tensor,
        bias_units: tuple[Tensor, Tensor],
        kernel: KernelIntegers,
        around: Surroundings,
        arithmetic: Arithmetic,
    ) -> Tensor:
        assert around.quantizer is not None and around.behind is not None
        scale, output = (quantizer.grid_now()[0] for quantizer in (around.quantizer, around.behind))
        units, of_weights = bias_units
        unit = scale * kernel.own_scale
        step, shift = output, None
        if around.affine:
            safe = ops.where(kernel.factor == 0, ops.ones_like(kernel.factor), kernel.factor)
            step = ops.cast(ops.cast(output, WIDE) / safe, "float32")
            shift = ops.cast(kernel.offset / safe, "float32")
        bias = getattr(self.layer, "bias", None)
        given = ops.zeros_like(units) if bias is None else ops.convert_to_tensor(bias.value)

        @differentiable
        def brought(sums: Tensor, bias: Tensor) -> tuple[Tensor, Any]:
            whole = arithmetic.requantized(sums + ops.cast(units, sums.dtype), scale, of_weights, output)
            outputs = whole * step if shift is None else whole * step - shift

            def gradient(*arguments: Tensor, **keywords: Tensor) -> tuple[Tensor, Tensor]:
                upstream = upstream_of(arguments, keywords)
                axes = list(range(len(upstream.shape) - len(bias.shape)))
                return ops.cast(upstream * unit, sums.dtype), ops.cast(ops.sum(upstream, axis=axes), bias.dtype)

            return outputs, gradient

        return brought(sums, given)


def _rounding(kernel: KernelIntegers, around: Surroundings) -> Tensor:
    """Return what rounding changes in the bias, float32, where the output isn't rounded here."""
    quantizer = around.quantizer
    assert quantizer is not None
    scale, _ = quantizer.grid_now()
    safe = ops.where(scale > 0, scale, 1.0)
    units, of_weights = kernel.bias_units(safe)
    rounded = units * ops.cast(safe * of_weights, WIDE)
    factor = ops.where(kernel.factor == 0, ops.ones_like(kernel.factor), kernel.factor)
    change = (rounded - ops.cast(kernel.bias, WIDE)) / factor
    change = ops.where(has_range(quantizer), ops.cast(change, "float32"), 0.0)
    return ops.stop_gradient(change)
