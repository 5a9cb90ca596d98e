"""The layers that stand in a graph to be exported for what integer runtimes have no one operator for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.transform import read
from tfcompress.export.plan.scheme import HIGHEST, LOWEST
from tfcompress.graph.clone import has_mask
from tfcompress.graph.rewrite import Call
from tfcompress.layers.einsum_equations import MatrixForm, matrix_form
from tfcompress.layers.names import name_of
from tfcompress.quantization.numerics.constant_range import FixedQuantizer
from tfcompress.quantization.numerics.grid import Grid


class MatrixProduct(keras.layers.Layer):
    """A Dense or EinsumDense as one product of two matrices, which is what integer kernels there are.

    Args:
        kernel: (summed, outputs), float32.
        bias: (outputs,) or `None`.
        form: How the input and the output are transposed.
        made: The sizes of the kernel's output axes, whose product is `outputs`.
    """

    def __init__(
        self, kernel: np.ndarray, bias: np.ndarray | None, form: MatrixForm, made: Sequence[int], **kwargs: Any
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.form = form
        self.made = tuple(made)
        self.kernel = self.add_weight(
            name="kernel", shape=kernel.shape, initializer=keras.initializers.Constant(kernel), trainable=False
        )
        self.bias = None
        if bias is not None:
            self.bias = self.add_weight(
                name="bias", shape=bias.shape, initializer=keras.initializers.Constant(bias), trainable=False
            )
        self.built = True

    @classmethod
    def of(cls, layer: Any, call: Call) -> Any:
        """Return a layer as a product; itself if it is one of two dimensions, or none."""
        kernel = read(layer.kernel).astype("float32")
        if name_of(layer) == "dense":
            rank = len(call.inputs[0].shape)
            if rank == 2:
                return layer
            axes = tuple(range(rank))
            form: MatrixForm | None = MatrixForm(axes, 1, (0, 1), axes)
        else:
            form = matrix_form(layer)
        if form is None:
            return layer
        made = [kernel.shape[i] for i in form.kernel_axes[form.summed :]]
        matrix = np.transpose(kernel, form.kernel_axes).reshape(-1, math.prod(made))
        bias = None
        if layer.bias is not None:
            bias = _flat_bias(read(layer.bias).astype("float32"), form, made)
            if bias is None:
                return layer
        return cls(matrix, bias, form, made, name=layer.name)

    def call(self, inputs: Any) -> Any:
        """Return the product."""
        x = inputs
        if self.form.input_axes != tuple(range(len(x.shape))):
            x = ops.transpose(x, self.form.input_axes)
        kept = list(ops.shape(x))[: len(x.shape) - self.form.summed]
        y = ops.matmul(ops.reshape(x, (-1, self.kernel.shape[0])), self.kernel)
        if self.bias is not None:
            y = ops.add(y, self.bias)
        y = ops.reshape(y, _one_free([*kept, *self.made]))
        if self.form.output_axes != tuple(range(len(self.form.output_axes))):
            y = ops.transpose(y, self.form.output_axes)
        return y

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return the shape of the outputs, float32."""
        rank = len(inputs.shape)
        shape: list[Any] = [inputs.shape[i] for i in self.form.input_axes[: rank - self.form.summed]]
        shape += self.made
        return keras.KerasTensor(tuple(shape[i] for i in self.form.output_axes), "float32")


def _flat_bias(bias: np.ndarray, form: MatrixForm, made: Sequence[int]) -> np.ndarray | None:
    """Return a bias as one value for each column of the product; `None` if it varies along what is kept."""
    rank = len(form.output_axes)
    full = bias.reshape((1,) * (rank - bias.ndim) + bias.shape)
    inverse = np.argsort(form.output_axes)
    full = np.transpose(full, inverse)
    kept = rank - len(made)
    if math.prod(full.shape[:kept]) != 1:
        return None
    return np.ascontiguousarray(np.broadcast_to(full.reshape(full.shape[kept:]), tuple(made))).reshape(-1)


def _one_free(shape: list[Any]) -> tuple[Any, ...]:
    """Return a shape with -1 for the one size that isn't a known number, if there is just one."""
    unknown = [index for index, size in enumerate(shape) if not isinstance(size, int)]
    if len(unknown) == 1:
        shape = [-1 if index == unknown[0] else size for index, size in enumerate(shape)]
    return tuple(shape)


class AffineMap(keras.layers.Layer):
    """A scale and an offset for each channel, as a depthwise convolution: the operator that integer runtimes have.

    Args:
        scale: (channels,).
        offset: (channels,).
    """

    def __init__(self, scale: np.ndarray, offset: np.ndarray, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        kernel = np.asarray(scale, np.float32).reshape(1, 1, -1, 1)
        self.kernel = self.add_weight(
            name="kernel", shape=kernel.shape, initializer=keras.initializers.Constant(kernel), trainable=False
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(kernel.shape[2],),
            initializer=keras.initializers.Constant(np.asarray(offset, np.float32)),
            trainable=False,
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return `inputs * scale + offset`."""
        shape = list(ops.shape(inputs))
        rank = len(shape)
        x = inputs
        if rank < 4:
            x = ops.reshape(x, _one_free([shape[0], *(1 for _ in range(4 - rank)), *shape[1:]]))
        y = ops.depthwise_conv(x, self.kernel, strides=1, padding="valid", data_format="channels_last")
        y = ops.add(y, self.bias)
        return ops.reshape(y, _one_free(shape)) if rank < 4 else y

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return the shape of the inputs, float32."""
        return keras.KerasTensor(inputs.shape, "float32")


class ScalarMap(keras.layers.Layer):
    """One scale and one offset for all of a tensor on a grid of integers: a product and a sum.

    The product lies on the input's integers with another scale, so that it is exact.

    Args:
        scale: Any number but 0.
        offset: Any number.
        grid: That of the input.
    """

    def __init__(self, scale: float, offset: float, grid: Grid, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.scale, self.offset = np.float32(scale), np.float32(offset)
        least, most = sorted(float(end) * float(scale) for end in (grid.minimum, grid.maximum))
        self.quantizer = FixedQuantizer(least, most, grid.bits, name=f"{self.name}_product")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return `inputs * scale + offset`."""
        y = ops.multiply(inputs, self.scale)
        return ops.add(self.quantizer(y), self.offset) if self.offset else y

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return the shape of the inputs, float32."""
        return keras.KerasTensor(inputs.shape, "float32")


class WindowMean(keras.layers.Layer):
    """Average pooling without padding as a depthwise convolution.

    TFLite's own average pooling has one scale for its input and its output, so that it rounds twice, coarsely; its
    depthwise convolution has a scale for each.

    Args:
        window: Height and width, in pixels; a sequence has the height 1.
        strides: Of the window, in pixels.
        channels: Of the input.
    """

    def __init__(self, window: Sequence[int], strides: Sequence[int], channels: int, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.strides = tuple(strides)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*window, channels, 1),
            initializer=keras.initializers.Constant(1.0 / math.prod(window)),
            trainable=False,
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return the means; a sequence is an image of one row."""
        rows = len(inputs.shape) == 3
        x = ops.expand_dims(inputs, 1) if rows else inputs
        y = ops.depthwise_conv(x, self.kernel, strides=self.strides, padding="valid", data_format="channels_last")
        return ops.squeeze(y, 1) if rows else y


def opened(x: Any) -> Any:
    """Return an argument of what is to stay float, a maximum in front if it is a tensor of real numbers."""
    real = keras.utils.is_keras_tensor(x) and keras.backend.is_float_dtype(x.dtype)
    return _bounded(x, ops.maximum, LOWEST) if real else x


def closed(x: Any) -> Any:
    """Return an output of what is to stay float, a minimum behind."""
    return _bounded(x, ops.minimum, HIGHEST)


class Bound(keras.layers.Layer):
    """A limit of a tensor with a Keras mask, which an operation would lose.

    Args:
        function: `ops.maximum` or `ops.minimum`.
        limit: Its second argument.
    """

    def __init__(self, function: Callable[[Any, float], Any], limit: float, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.function, self.limit = function, limit
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return what is within the limit."""
        return self.function(inputs, self.limit)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return the shape and dtype of the inputs."""
        return keras.KerasTensor(inputs.shape, inputs.dtype)


def _bounded(x: Any, function: Callable[[Any, float], Any], limit: float) -> Any:
    return Bound(function, limit)(x) if has_mask(x) else function(x, limit)
