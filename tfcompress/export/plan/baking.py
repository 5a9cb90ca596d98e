"""What the layers of a quantized model compute with, read out as constants."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfcompress.core.passthrough import PassThrough
from tfcompress.core.transform import read, remove_projection
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.graph.affine_forms import constant_map
from tfcompress.graph.rewrite import Call
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.batch_norm_folding import affine_of


def baked(operation: Any) -> Any:
    """Return the layer inside of a wrapper, with the weights that it sees."""
    while isinstance(operation, PassThrough):
        if isinstance(operation, CompressedLayer):
            for position, value in operation.transformed().items():
                weight = operation.layer.weights[position]
                weight.assign(value)
                remove_projection(weight)
        elif not operation.temporary:
            return operation
        operation.layer.name = operation.name
        operation = operation.layer
    return operation


def scale_and_offset(call: Call) -> tuple[Any, Any]:
    """Return (scale, offset) of an affine map: arrays of one value for each channel, or scalars; float64."""
    constant = constant_map(call)
    if constant is not None:
        return constant
    layer = baked(call.operation)
    name = name_of(layer)
    if name == "rescaling":
        return np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    if name == "layerscale":
        return read(layer.gamma).astype(np.float64), np.float64(0.0)
    if name == "normalization":
        mean = np.asarray(keras.ops.convert_to_numpy(layer.mean), np.float64).reshape(-1)
        deviation = np.sqrt(np.asarray(keras.ops.convert_to_numpy(layer.variance), np.float64).reshape(-1))
        deviation = np.maximum(deviation, keras.config.epsilon())
        return 1.0 / deviation, -mean / deviation
    return affine_of(layer)


def window_of(operation: Any, call: Call) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return the window and strides, in pixels, of an average pooling without padding; `None` for anything else."""
    name = name_of(operation)
    sizes = call.inputs[0].shape[1:3]
    if name == "averagepooling2d" and operation.padding == "valid":
        window, strides = tuple(operation.pool_size), tuple(operation.strides or operation.pool_size)
    elif name == "adaptiveaveragepooling2d" and all(
        size is not None and size % made == 0 for size, made in zip(sizes, operation.output_size, strict=True)
    ):
        window = strides = tuple(size // made for size, made in zip(sizes, operation.output_size, strict=True))
    else:
        return None
    return (window, strides) if len(set(strides)) == 1 else None
