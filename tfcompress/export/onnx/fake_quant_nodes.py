"""TensorFlow's fake-quantizers as QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.quantization.numerics.grid import Grid
from tfcompress.tracing.trace import CALL_SUFFIX

MARK = "tfcompress.quantizer:"
"""What the name of a QuantizeLinear starts with, before the name of the Keras layer, until tensors are named."""


def layer_name(operation: str) -> str:
    """Return the name of the Keras layer that a TensorFlow operation belongs to.

    >>> layer_name("model_1/quantizer_1/FakeQuantWithMinMaxVars")
    'quantizer'
    """
    scope = operation.split("/")[-2] if "/" in operation else operation
    return CALL_SUFFIX.sub("", scope)


def convert(context: Any, node: Any, name: str, args: Any) -> None:
    """Map `FakeQuantWithMinMaxVars` to QuantizeLinear and DequantizeLinear: a custom handler of tf2onnx.

    With other than 8 or 16 bits a Clip stands before them, and no integer kernel is found. A narrow range of 8
    or 16 bits has none: a value below the range then becomes the integer that the range leaves unused, one step
    lower.
    """
    from tf2onnx import utils

    low, high = (float(node.inputs[place].get_tensor_value()) for place in (1, 2))
    bits, narrow = node.get_attr_int("num_bits"), bool(node.get_attr_int("narrow_range"))
    grid = Grid.of_range(low, high, bits, narrow)
    source, output = node.input[0], node.output[0]
    shape, dtype = context.get_shape(output), context.get_dtype(source)
    layer = layer_name(name)
    context.remove_node(node.name)

    def constant(role: str, value: Any) -> str:
        return context.make_const(utils.make_name(f"{layer}/{role}"), np.asarray(value)).output[0]

    if bits not in (8, 16):
        ends = [constant("lowest", grid.minimum), constant("highest", grid.maximum)]
        clip = context.make_node("Clip", [source, *ends], shapes=[shape], dtypes=[dtype])
        source = clip.output[0]
    parameters = [constant("scale", np.float32(grid.scale)), constant("zero_point", grid.unsigned_zero_point)]
    integers = context.make_node(
        "QuantizeLinear",
        [source, *parameters],
        name=utils.make_name(f"{MARK}{layer}/"),
        shapes=[shape],
        dtypes=[utils.map_numpy_to_onnx_dtype(np.dtype(type(grid.unsigned_zero_point)))],
    )
    context.make_node(
        "DequantizeLinear",
        [integers.output[0], *parameters],
        name=utils.make_name(f"{layer}/dequantize"),
        outputs=[output],
        shapes=[shape],
        dtypes=[dtype],
    )


def layer_of(node: Any) -> str | None:
    """Return the layer that a QuantizeLinear was made for by `convert`, None if it has another origin."""
    return node.name.removeprefix(MARK).rsplit("/", 1)[0] if node.name.startswith(MARK) else None
