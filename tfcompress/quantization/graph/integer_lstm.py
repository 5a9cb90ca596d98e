"""LSTM layers that compute, step by step, in the numbers of TFLite's integer kernel."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from tfcompress.core.locking import exclusive
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.quantization.encoding.bias import bias_scale
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.graph.grids_at_hand import are_in_floats, are_ranges_unknown, known
from tfcompress.quantization.graph.surroundings import surroundings
from tfcompress.quantization.numerics.custom_gradient import with_gradients_of, without_gradients
from tfcompress.quantization.numerics.lstm_step import IntegerGates, lstm_step
from tfcompress.quantization.numerics.wide import WIDE
from tfcompress.quantization.weights.gates import GATES
from tfcompress.quantization.weights.uniform import WeightQuantizer

Tensor = Any

FLOAT_ARITHMETIC = "onnxruntime"
"""Of the runtime that has no integer LSTM: there the layer computes in float with int8 weights."""


@keras.saving.register_keras_serializable(package="tfcompress")
class IntegerLSTM(CompressedLayer):
    """A wrapper of an LSTM with quantized kernels, which rounds in each step what its integer kernel rounds.

    Its input is on the grid of the quantizer in front of it, its hidden state, which is its output, on that of TFLite's
    tanh. The weights are those that the transforms give.
    """

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Call the layer, its cell in those numbers; without rounding where its input has no range yet."""
        around = surroundings(self)
        quantizer = None if around is None else around.quantizer

        def floats() -> Any:
            return super(IntegerLSTM, self).call(inputs, *args, training=training, **kwargs)

        def stepping(step: Callable[..., Any]) -> Any:
            with _stepping(self.layer, step):
                return floats()

        if are_in_floats() or (quantizer is not None and quantizer.spec.arithmetic == FLOAT_ARITHMETIC):
            return floats()
        if training or around is None or quantizer is None or quantizer.spec.dynamic or are_ranges_unknown():
            return stepping(_training_step)
        return known(around, lambda: stepping(functools.partial(_integer_step, self.gates(quantizer))), floats)

    def gates(self, quantizer: ActivationQuantizer) -> IntegerGates:
        """Return the kernels and the bias in integers, for an input on the grid of a quantizer."""
        values = self.transformed()
        scales, kernels = [], []
        for weight in (self.layer.cell.kernel, self.layer.cell.recurrent_kernel):
            at = next(place for place, one in enumerate(self.layer.weights) if one is weight)
            rounding = next(t for place, t in self.transforms if place == at and isinstance(t, WeightQuantizer))
            scale = rounding.scale(self.value_before(rounding))
            scales.append(ops.where(scale > 0, scale, 1.0))
            kernels.append(ops.round(ops.cast(values[at], "float32") / scales[-1]))
        of_input, bias = quantizer.grid_now()[0], None
        if self.layer.use_bias:
            bias = self.layer.cell.bias.value
            kernels[0], scales[0] = _with_bias(kernels[0], scales[0], bias, of_input)
        return IntegerGates.of(of_input, kernels, scales, bias)


def _with_bias(kernel: Tensor, scale: Tensor, bias: Tensor, input_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return a kernel's whole numbers and scales, for each column, coarser where the bias of a gate wouldn't fit."""
    gates = (GATES, kernel.shape[-1] // GATES)
    largest = ops.max(ops.reshape(ops.abs(ops.cast(bias, "float32")), gates), axis=1)
    empty = ops.logical_not(ops.any(ops.reshape(ops.any(kernel != 0, axis=0), gates), axis=1))
    coarse = bias_scale(ops, largest, input_scale, ops.reshape(scale, gates)[:, 0], empty)
    coarse = ops.repeat(coarse, gates[1], axis=0)
    ratio = ops.cast(scale, WIDE) / ops.cast(coarse, WIDE)
    return ops.cast(ops.round(ops.cast(kernel, WIDE) * ratio), "float32"), coarse


@contextlib.contextmanager
def _stepping(layer: Any, step: Callable[..., Any]) -> Iterator[None]:
    """Let the cell of an LSTM do something else in the block; cuDNN's kernel doesn't."""
    cell, cudnn = layer.cell, layer.use_cudnn
    with exclusive():
        layer.use_cudnn = False
        object.__setattr__(cell, "call", functools.partial(step, cell))
        try:
            yield
        finally:
            object.__delattr__(cell, "call")
            layer.use_cudnn = cudnn


def _integer_step(
    gates: IntegerGates, cell: Any, inputs: Tensor, states: Any, training: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """Return what an LSTMCell returns in inference: the output, and the states; with the gradients of training."""
    exact = [ops.cast(state, cell.compute_dtype) for state in gates.step(inputs, *states)]
    if without_gradients():
        return exact[0], exact
    plain = _training_step(cell, inputs, states)[1]
    made = [_with_gradients(*both) for both in zip(plain, exact, strict=True)]
    return made[0], made


def _with_gradients(plain: Tensor, exact: Tensor) -> Tensor:
    return with_gradients_of(lambda: plain, exact)


def _training_step(cell: Any, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, list[Tensor]]:
    """Return what an LSTMCell returns in training."""
    hidden, memory = (ops.cast(state, "float32") for state in states)
    x = ops.cast(inputs, "float32")
    if training and 0.0 < cell.dropout < 1.0:
        x = x * _mask(cell.get_dropout_mask(inputs))
    before = hidden
    if training and 0.0 < cell.recurrent_dropout < 1.0:
        before = hidden * _mask(cell.get_recurrent_dropout_mask(hidden))
    kernel, recurrent = (ops.cast(weight, "float32") for weight in (cell.kernel, cell.recurrent_kernel))
    bias = ops.cast(cell.bias, "float32") if cell.use_bias else None
    hidden, memory = lstm_step(x, before, memory, kernel=kernel, recurrent=recurrent, bias=bias)
    made = [ops.cast(state, cell.compute_dtype) for state in (hidden, memory)]
    return made[0], made


def _mask(mask: Any) -> Tensor:
    """Return the dropout mask; of `implementation=1`, which has one for each gate, the first, for all."""
    return ops.cast(mask[0] if isinstance(mask, list | tuple) else mask, "float32")
