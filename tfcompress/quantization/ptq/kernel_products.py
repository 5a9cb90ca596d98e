"""A layer with a kernel as products of matrices, and what data says of the error that rounding the kernel makes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from tfcompress.core.passthrough import innermost
from tfcompress.core.sharding import gathered
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.channel_axes import channels_of
from tfcompress.layers.einsum_equations import matrix_form

Tensor = Any

MOST_INPUTS = 8192
"""Of one product: the products of all pairs of more take gigabytes."""

PIECE = 1 << 24
"""How many numbers of inputs are looked at together."""


@dataclasses.dataclass(frozen=True)
class KernelProduct:
    """A layer as `groups` products of (rows, inputs) and (inputs, outputs); a depthwise convolution has one a channel.

    Attributes:
        layer: A Dense, EinsumDense or (depthwise) convolution.
        shape: Of the kernel as matrices: (groups, inputs, outputs).
        order: Of the kernel's axes, to those of (inputs, outputs) or (positions, inputs, outputs).
    """

    layer: Any
    shape: tuple[int, int, int]
    order: tuple[int, ...]

    @classmethod
    def of(cls, operation: Any) -> KernelProduct | None:
        """Return the products that a layer, maybe in wrappers, computes; `None` if it computes something else."""
        layer = innermost(operation)
        rule = traits_of(layer).channels if channels_of(layer) is not None else None
        if rule == "einsum_dense":
            form = matrix_form(layer)
            if form is None:
                return None
            sizes = [layer.kernel.shape[axis] for axis in form.kernel_axes]
            shape = (1, math.prod(sizes[: form.summed]), math.prod(sizes[form.summed :]))
            return cls(layer, shape, form.kernel_axes)
        kernel = None if rule is None else getattr(layer, "kernel", None)
        if kernel is None or len(kernel.shape) > 4:
            return None
        *window, inputs, outputs = kernel.shape
        order = tuple(range(len(kernel.shape)))
        if rule in ("dense", "convolution"):
            groups = getattr(layer, "groups", 1) or 1
            return cls(layer, (groups, math.prod(window) * inputs, outputs // groups), order)
        return cls(layer, (inputs, math.prod(window), outputs), order) if rule == "depthwise" else None

    def matrices(self, kernel: np.ndarray) -> np.ndarray:
        """Return a kernel, or numbers that belong to its values, as (groups, inputs, outputs)."""
        groups, inputs, outputs = self.shape
        return kernel.transpose(self.order).reshape(inputs, groups, outputs).transpose(1, 0, 2)

    def kernel(self, matrices: np.ndarray) -> np.ndarray:
        """Return what `matrices` was given."""
        sizes = [self.layer.kernel.shape[axis] for axis in self.order]
        return matrices.transpose(1, 0, 2).reshape(sizes).transpose(np.argsort(self.order))

    def inputs(self, x: Tensor) -> Tensor:
        """Return what a kernel is multiplied by, of one batch, as (rows, groups, inputs)."""
        groups, inputs, _ = self.shape
        rule = traits_of(self.layer).channels
        if rule == "einsum_dense":
            form = matrix_form(self.layer)
            assert form is not None
            return ops.reshape(ops.transpose(x, form.input_axes), (-1, 1, inputs))
        if rule == "dense":
            return ops.reshape(x, (-1, 1, inputs))
        window = _of_two(tuple(self.layer.kernel.shape[:-2]))
        strides, dilation = _of_two(self.layer.strides), _of_two(self.layer.dilation_rate)
        padding = self.layer.padding
        if len(x.shape) == 3:
            if padding == "causal":
                x = ops.pad(x, [(0, 0), (dilation[1] * (window[1] - 1), 0), (0, 0)])
                padding = "valid"
            x = ops.expand_dims(x, 1)
        made = ops.image.extract_patches(x, window, strides, dilation, padding, data_format="channels_last")
        positions = math.prod(window)
        of_group = 1 if rule == "depthwise" else inputs // positions
        made = ops.reshape(made, (-1, positions, groups, of_group))
        return ops.reshape(ops.transpose(made, (0, 2, 1, 3)), (-1, groups, inputs))

    def outputs(self, y: Tensor) -> Tensor:
        """Return a layer's outputs of one batch as (rows, groups, outputs)."""
        groups, _, outputs = self.shape
        if traits_of(self.layer).channels == "einsum_dense":
            form = matrix_form(self.layer)
            assert form is not None
            y = ops.transpose(y, [int(axis) for axis in np.argsort(form.output_axes)])
        return ops.reshape(y, (-1, groups, outputs))


def _of_two(sizes: Any) -> tuple[int, int]:
    """Return the sizes of a window of two dimensions for one that has one or two."""
    given = tuple(sizes) if isinstance(sizes, Sequence) else (sizes,)
    return (1, int(given[0])) if len(given) == 1 else (int(given[0]), int(given[1]))


class ErrorStatistics:
    """The mean squared error of a layer's outputs as a function of its rounded kernel, from data in a stream.

    With inputs x of the quantized model, the kernel w, its rounding w + d and the outputs y that are wanted, the error
    of one output is mean (y - x (w + d))^2 = d' H d - 2 d' r + c, where H = mean x' x, r = mean x' (y - x w) and
    c = mean (y - x w)^2. So data of any size is three small arrays.

    Args:
        product: Of the layer.
        kernel: Its values before they are rounded, as matrices.
    """

    def __init__(self, product: KernelProduct, kernel: np.ndarray):
        self.product = product
        self.plain = kernel.astype(np.float32)
        groups, inputs, outputs = product.shape
        self.rows = 0
        self.pairs = np.zeros((groups, inputs, inputs))
        self.lacking = np.zeros((groups, inputs, outputs))
        self.constant = np.zeros((groups, outputs))

    def add(self, x: Tensor, y: Tensor | None, bias: np.ndarray | None = None) -> None:
        """Take in one batch.

        Args:
            x: Inputs of the quantized layer.
            y: The outputs that are wanted of it; `None`: what the plain kernel makes of these inputs.
            bias: What the layer adds, which is no part of the error.
        """
        samples = int(x.shape[0])
        step = max(1, PIECE // max(1, math.prod(x.shape[1:]) * math.prod(self.product.layer.kernel.shape[:-2])))
        for start in range(0, samples, step):
            rows = self.product.inputs(ops.cast(x[start : start + step], "float32"))
            self.pairs += gathered(ops.einsum("rgk,rgl->gkl", rows, rows))
            self.rows += int(rows.shape[0])
            if y is not None:
                wanted = ops.cast(y[start : start + step], "float32")
                wanted = self.product.outputs(wanted if bias is None else wanted - bias.astype(np.float32))
                missing = wanted - ops.einsum("rgk,gkn->rgn", rows, self.plain)
                self.lacking += gathered(ops.einsum("rgk,rgn->gkn", rows, missing))
                self.constant += gathered(ops.sum(ops.square(missing), axis=0))

    def means(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return H, r and c."""
        return self.pairs / self.rows, self.lacking / self.rows, self.constant / self.rows

    def error(self, kernel: np.ndarray) -> np.ndarray:
        """Return the mean squared error with a kernel, as matrices, of each output: (groups, outputs)."""
        pairs, lacking, constant = self.means()
        change = kernel.astype(np.float64) - self.plain
        return np.einsum("gkn,gkn->gn", change, pairs @ change - 2 * lacking) + constant
