"""Which output channels of a layer with a kernel are constant: of zero kernels, or of constant inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfcompress.channels.kernel_rules import equation_of
from tfcompress.channels.tracker import channel_axis
from tfcompress.core.transform import read
from tfcompress.graph.rewrite import Call
from tfcompress.layers.catalogue import traits_of

Values = dict[int, np.ndarray]
"""By axis of a tensor, for each index the value of all elements there, float64; NaN where they may differ."""

ZERO = 1e-9
"""What counts as zero: nothing else than the rounding of a batch normalization's offset."""


def is_zero(value: np.ndarray) -> np.ndarray:
    """Return where a value is known, and zero."""
    return np.asarray(np.abs(np.nan_to_num(value, nan=1.0)) <= ZERO)


def pads(layer: Any) -> bool:
    """Return whether a convolution adds zeros around what it is called with, so that its borders differ."""
    size = getattr(layer, "kernel_size", (1,))
    return getattr(layer, "padding", "valid") != "valid" and any(length > 1 for length in size)


def summed(kernel: np.ndarray, bias: np.ndarray | float, value: np.ndarray, padded: bool) -> np.ndarray:
    """Return the constant outputs of a convolution.

    Args:
        kernel: Shape (space, inputs, outputs).
        bias: Shape (outputs,).
        value: The inputs' constants, shape (inputs,), NaN where they aren't constant.
        padded: Whether zeros are added around the inputs.

    Returns:
        Shape (outputs,); NaN where an output isn't constant.

    Example:

    >>> summed(np.array([[[1.0, 0.0], [2.0, 3.0]]]), 0.5, np.array([np.nan, 1.0]), padded=False).tolist()
    [nan, 3.5]
    """
    settled = is_zero(value) if padded else ~np.isnan(value)
    fixed = np.einsum("sio,i->o", kernel, np.where(settled, np.nan_to_num(value), 0.0)) + bias
    moves = np.any(kernel[:, ~settled] != 0, axis=(0, 1))
    return np.where(moves, np.nan, fixed)


def _bias(layer: Any) -> np.ndarray | float:
    return 0.0 if layer.bias is None else read(layer.bias).astype("float64")


def _input(call: Call, values: Values, axis: int, size: int | None = None) -> np.ndarray:
    """Return what is known of the input's channels; `size` is their number where its shape doesn't say it."""
    known = values.get(axis)
    return np.full(call.inputs[0].shape[axis] or size or 0, np.nan) if known is None else known


def _convolved(layer: Any, call: Call, values: Values) -> Values:
    rank = len(call.inputs[0].shape)
    axis = channel_axis(layer, rank)
    value = _input(call, values, axis)
    kernel = read(layer.kernel).astype("float64")
    transposed = traits_of(layer).channels == "transposed"
    if transposed:
        kernel = np.swapaxes(kernel, -1, -2)
    kernel = kernel.reshape(-1, *kernel.shape[-2:])
    groups = getattr(layer, "groups", 1)
    parts = [
        summed(part, 0.0, own, transposed or pads(layer))
        for part, own in zip(np.split(kernel, groups, -1), np.split(value, groups), strict=True)
    ]
    return {axis: np.concatenate(parts) + _bias(layer)}


def depthwise_values(layer: Any, kernel: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return the constant outputs, without bias, of a depthwise convolution with a (..., inputs, multiplier) kernel."""
    kernel = kernel.astype("float64").reshape(-1, *kernel.shape[-2:])
    known = is_zero(value) if pads(layer) else ~np.isnan(value)
    fixed = np.where(known, np.nan_to_num(value), 0.0)[:, None] * kernel.sum(0)
    return np.where(known[:, None] | ~np.any(kernel != 0, axis=0), fixed, np.nan).ravel()


def _depthwise(layer: Any, call: Call, values: Values) -> Values:
    axis = channel_axis(layer, len(call.inputs[0].shape))
    return {axis: depthwise_values(layer, read(layer.kernel), _input(call, values, axis)) + _bias(layer)}


def _separable(layer: Any, call: Call, values: Values) -> Values:
    axis = channel_axis(layer, len(call.inputs[0].shape))
    between = depthwise_values(layer, read(layer.depthwise_kernel), _input(call, values, axis))
    kernel = read(layer.pointwise_kernel).astype("float64")
    return {axis: summed(kernel.reshape(1, *kernel.shape[-2:]), _bias(layer), between, False)}


def _dense(layer: Any, call: Call, values: Values) -> Values:
    axis = len(call.inputs[0].shape) - 1
    kernel = read(layer.kernel).astype("float64")[None]
    return {axis: summed(kernel, _bias(layer), _input(call, values, axis, kernel.shape[1]), False)}


def _columns(layer: Any, call: Call, values: Values) -> Values:
    """A table: Embedding, Parameter."""
    table = read(layer.weights[0]).astype("float64")
    if table.ndim < 1:
        return {}
    table = table.reshape(-1, table.shape[-1])
    return {len(call.outputs[0].shape) - 1: np.where(np.all(table == table[:1], axis=0), table[0], np.nan)}


def _einsum_dense(layer: Any, call: Call, values: Values) -> Values:
    letters = equation_of(layer, len(call.inputs[0].shape))
    if letters is None:
        return {}
    kernel = read(layer.kernel).astype("float64")
    for axis, value in values.items():
        letter = letters.inputs[axis]
        if letter in letters.kernel:
            shape = [-1 if other == letter else 1 for other in letters.kernel]
            kernel = np.where(is_zero(value).reshape(shape), 0.0, kernel)
    bias = np.zeros(()) if layer.bias is None else read(layer.bias).astype("float64")
    found: Values = {}
    for axis, letter in enumerate(letters.output):
        if letter not in letters.kernel or letter in letters.inputs:
            continue
        size = kernel.shape[letters.kernel.index(letter)]
        live = np.any(np.moveaxis(kernel, letters.kernel.index(letter), 0).reshape(size, -1) != 0, axis=1)
        at = axis - len(letters.output) + bias.ndim
        spread = np.moveaxis(bias, at, 0) if at >= 0 else bias[None]
        spread = np.broadcast_to(spread.reshape(spread.shape[0], -1), (size, spread.size // spread.shape[0]))
        same = np.all(spread == spread[:, :1], axis=1)
        found[axis] = np.where(live | ~same, np.nan, spread[:, 0])
    return found


MAKERS: dict[str, Callable[[Any, Call, Values], Values]] = {
    "dense": _dense,
    "einsum_dense": _einsum_dense,
    "embedding": _columns,
    "parameter": _columns,
    "convolution": _convolved,
    "transposed": _convolved,
    "depthwise": _depthwise,
    "separable": _separable,
}
"""What a layer makes of constants, by its rule of channels: a function of (layer, call, constants of its input)."""
