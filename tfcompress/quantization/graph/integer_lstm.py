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
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.graph.grids_at_hand import are_ranges_unknown
from tfcompress.quantization.graph.surroundings import surroundings
from tfcompress.quantization.numerics.lstm_step import IntegerGates, lstm_step
from tfcompress.quantization.weights.uniform import WeightQuantizer

Tensor = Any


@keras.saving.register_keras_serializable(package="tfcompress")
class IntegerLSTM(CompressedLayer):
    """A wrapper of an LSTM with quantized kernels, which rounds in each step what its integer kernel rounds.

    Its input is on the grid of the quantizer in front of it, its hidden state, which is its output, on that of TFLite's
    tanh. The weights are those that the transforms give.
    """

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Call the layer, its cell in those numbers; in training such that gradients pass."""
        step = _training_step
        quantizer = None if training else self.input_quantizer()
        if quantizer is not None:
            step = functools.partial(_integer_step, self.gates(quantizer))
        with _stepping(self.layer, step):
            return super().call(inputs, *args, training=training, **kwargs)

    def input_quantizer(self) -> ActivationQuantizer | None:
        """Return what puts the input on a grid; `None` where none is known, or is passed by."""
        around = surroundings(self)
        quantizer = None if around is None else around.quantizer
        if quantizer is None or quantizer.spec.dynamic or (quantizer.learns and are_ranges_unknown()):
            return None
        return quantizer

    def gates(self, quantizer: ActivationQuantizer) -> IntegerGates:
        """Return the kernels and the bias in integers, for an input on the grid of a quantizer."""
        values = self.transformed()
        scales, kernels = [], []
        for weight in (self.layer.cell.kernel, self.layer.cell.recurrent_kernel):
            at = next(place for place, one in enumerate(self.layer.weights) if one is weight)
            rounding = next(t for place, t in self.transforms if place == at and isinstance(t, WeightQuantizer))
            scales.append(rounding.scale(self.value_before(rounding)))
            kernels.append(values[at])
        bias = self.layer.cell.bias.value if self.layer.use_bias else None
        return IntegerGates.of(quantizer.scale, kernels, scales, bias)


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
    """Return what an LSTMCell returns in inference: the output, and the states."""
    made = [ops.cast(state, cell.compute_dtype) for state in gates.step(inputs, *states)]
    return made[0], made


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
