"""One step of an LSTM in the numbers of the integer kernels, differentiable.

Follows R. Li and A. Alvarez, "On the quantization of recurrent neural networks" (2021), as TFLite has it: gates are
rounded to 16 bits with 12 behind the point, their sigmoid and tanh to 16 bits with 15 behind it, the cell state to 16
bits with a scale that is a power of two, the hidden state to 8 bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.quantization.numerics.gate_tables import sigmoid_table, tanh_table

Tensor = Any

_WIDE = "float64" if keras.backend.backend() != "jax" else "float32"
"""JAX has no other: there a step is near the kernel's, not the same."""

GATE_SCALE = 2.0**-12
RATIO_SCALE = 2.0**-15
"""Of what sigmoid and tanh give."""

CELL_SCALE = 2.0**-11
"""The cell state is cut off at 16, where its tanh is 1."""

HIDDEN_SCALE = 2.0**-7
"""With zero point 0, the grid that TFLite has for tanh."""


def on_grid(x: Tensor, scale: float, bits: int = 16) -> Tensor:
    """Return values on a grid of integers of so many bits; the gradient passes straight through, but not beyond it.

    >>> import numpy as np
    >>> np.asarray(on_grid(np.float32([0.3, -9.0, 1.5]), 0.5, bits=3)).tolist()
    [0.5, -2.0, 1.5]
    """
    least, most = -(2.0 ** (bits - 1)) * scale, (2.0 ** (bits - 1) - 1) * scale
    inside = ops.clip(x, least, most)
    return inside + ops.stop_gradient(ops.floor(inside / scale + 0.5) * scale - inside)


def lstm_step(
    x: Tensor, hidden: Tensor, cell: Tensor, *, kernel: Tensor, recurrent: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the hidden state and the cell state behind one step.

    Args:
        x: (batch, inputs), float32, on the grid of its quantizer.
        hidden: (batch, units), on its grid.
        cell: (batch, units), on its grid.
        kernel: (inputs, 4 * units), on the grid of each gate; gates in Keras' order.
        recurrent: (units, 4 * units), likewise.
        bias: (4 * units,), or `None`.
    """
    given = ops.matmul(x, kernel)
    given = on_grid(given if bias is None else given + bias, GATE_SCALE)
    gates = on_grid(given + on_grid(ops.matmul(hidden, recurrent), GATE_SCALE), GATE_SCALE)
    enter, forget, new, leave = ops.split(gates, 4, axis=-1)
    enter, forget, leave = (on_grid(ops.sigmoid(gate), RATIO_SCALE) for gate in (enter, forget, leave))
    new = on_grid(ops.tanh(new), RATIO_SCALE)
    cell = on_grid(on_grid(forget * cell, CELL_SCALE) + on_grid(enter * new, CELL_SCALE), CELL_SCALE)
    return on_grid(leave * on_grid(ops.tanh(cell), RATIO_SCALE), HIDDEN_SCALE, bits=8), cell


@dataclasses.dataclass(frozen=True)
class IntegerGates:
    """The gates of an LSTM in whole numbers, as LiteRT's kernel computes them, bit by bit.

    Attributes:
        scale: Of the input.
        kernels: The kernel and the recurrent one, whole numbers, float32.
        bias: Whole numbers of scale `input * kernel`, float32; `None`: none.
        multipliers: What the sums of each kernel's products are multiplied by to be gates: numbers from .5 to 1 and
            powers of two, float64, for each column.
    """

    scale: Tensor
    kernels: Sequence[Tensor]
    bias: Tensor | None
    multipliers: Sequence[tuple[Tensor, Tensor]]

    @classmethod
    def of(
        cls, scale: Tensor, kernels: Sequence[Tensor], scales: Sequence[Tensor], bias: Tensor | None
    ) -> IntegerGates:
        """Make the numbers of kernels in integers.

        Args:
            scale: Of the input, above 0.
            kernels: The kernel and the recurrent one, whole numbers.
            scales: Of each kernel, for each column.
            bias: Or `None`.
        """
        products = [own * factor for own, factor in zip(scales, (scale, HIDDEN_SCALE), strict=True)]
        safe = [ops.where(product > 0, product, 1.0) for product in products]
        units = None if bias is None else ops.round(ops.cast(bias, _WIDE) / ops.cast(safe[0], _WIDE))
        return cls(scale, kernels, units, [_multiplier(product / GATE_SCALE) for product in safe])

    def step(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden state and the cell state behind one step; the arguments are on their grids."""
        x = ops.round(ops.cast(x, "float32") / self.scale)
        hidden, cell = (
            ops.clip(ops.round(ops.cast(state, "float32") / scale), -(2.0**bits), 2.0**bits - 1)
            for state, scale, bits in ((hidden, HIDDEN_SCALE, 7), (cell, CELL_SCALE, 15))
        )
        given = ops.cast(ops.matmul(x, self.kernels[0]), _WIDE)
        given = _cut(_times(given if self.bias is None else given + self.bias, *self.multipliers[0]))
        before = _times(ops.cast(ops.matmul(hidden, self.kernels[1]), _WIDE), *self.multipliers[1])
        enter, forget, new, leave = ops.split(ops.cast(_cut(given + before), "int32"), 4, axis=-1)
        enter, forget, leave = (_looked_up(sigmoid_table(), gate) for gate in (enter, forget, leave))
        new = _looked_up(tanh_table(3), new)
        cell = _halved(forget * ops.cast(cell, _WIDE), 15) + _halved(enter * new, 19)
        cell = _cut(cell)
        ratio = _looked_up(tanh_table(4), ops.cast(cell, "int32"))
        made = ops.clip(_halved(ops.floor(leave * ratio * 0.5 + 0.5), 22), -128, 127)
        return ops.cast(made * HIDDEN_SCALE, "float32"), ops.cast(cell * CELL_SCALE, "float32")


def _multiplier(ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Return a factor as a number from .5 to 1, float64, and a power of two, the larger of 1 and it."""
    ratio = ops.cast(ratio, _WIDE)
    power = ops.power(ops.cast(2.0, _WIDE), ops.floor(ops.log2(ratio)) + 1.0)
    power = ops.where(ratio >= power, power * 2.0, power)
    power = ops.where(ratio < power / 2.0, power / 2.0, power)
    return ratio / power, power


def _times(x: Tensor, multiplier: Tensor, power: Tensor) -> Tensor:
    """Return whole numbers times a factor, rounded twice as in fixed point: behind the product, and the shift."""
    product = ops.floor(x * ops.maximum(power, 1.0) * multiplier + 0.5)
    return _rounded(product * ops.minimum(power, 1.0))


def _halved(x: Tensor, times: int) -> Tensor:
    return _rounded(x * 2.0**-times)


def _rounded(x: Tensor) -> Tensor:
    """Return whole numbers, halves away from zero."""
    return ops.sign(x) * ops.floor(ops.abs(x) + 0.5)


def _cut(x: Tensor) -> Tensor:
    return ops.clip(x, -(2.0**15), 2.0**15 - 1)


def _looked_up(table: np.ndarray, x: Tensor) -> Tensor:
    """Return what a table has for integers of 16 bits, float64."""
    return ops.cast(ops.take(table.astype("float32"), x + 2**15, axis=0), _WIDE)
