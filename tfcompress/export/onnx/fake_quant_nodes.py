"""TensorFlow's fake-quantizers as QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfcompress.tracing.trace import CALL_SUFFIX

MARK = "tfcompress.quantizer:"
"""What the name of a QuantizeLinear starts with, before the name of the Keras layer, until tensors are named."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """The integers of a tensor and what they stand for: (q - zero_point) * scale.

    Attributes:
        scale: float32.
        zero_point: of the dtype that the integers are stored in.
        lowest: the least integer that is used.
        highest: the largest.
    """

    scale: np.float32
    zero_point: Any
    lowest: int
    highest: int

    @property
    def minimum(self) -> np.float32:
        """The least value, in float32 as TensorFlow computes it."""
        return np.float32(np.float32(self.lowest - int(self.zero_point)) * self.scale)

    @property
    def maximum(self) -> np.float32:
        """The largest value."""
        return np.float32(np.float32(self.highest - int(self.zero_point)) * self.scale)


def nudge(minimum: float, maximum: float, bits: int = 8, narrow: bool = False) -> Grid:
    """Return the grid that `FakeQuantWithMinMaxVars` rounds to, every step in float32 as in its kernel.

    Args:
        minimum: lower end of the range, at most 0.
        maximum: upper end, at least 0, above `minimum`.
        bits: 2 to 16.
        narrow: whether the lowest integer stays unused.

    Returns:
        A `Grid` of unsigned integers: uint8 up to 8 bits, else uint16.

    In float64 the zero point of the range -1..1 would be 128:

    >>> int(nudge(-1.0, 1.0).zero_point)
    127
    """
    lowest, highest = int(narrow), 2**bits - 1
    low, high = np.float32(minimum), np.float32(maximum)
    scale = np.float32((high - low) / np.float32(highest - lowest))
    exact = np.float32(np.float32(lowest) - np.float32(low / scale))
    # The exact zero point lies in the range, so rounding half away from zero is floor(x + 0.5); in float64,
    # where the sum of a float32 and 0.5 is exact.
    zero = int(np.clip(np.floor(np.float64(exact) + 0.5), lowest, highest))
    return Grid(scale, (np.uint8 if bits <= 8 else np.uint16)(zero), lowest, highest)


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
    grid = nudge(low, high, bits, narrow)
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
    parameters = [constant("scale", grid.scale), constant("zero_point", grid.zero_point)]
    integers = context.make_node(
        "QuantizeLinear",
        [source, *parameters],
        name=utils.make_name(f"{MARK}{layer}/"),
        shapes=[shape],
        dtypes=[utils.map_numpy_to_onnx_dtype(parameters_dtype(grid))],
    )
    context.make_node(
        "DequantizeLinear",
        [integers.output[0], *parameters],
        name=utils.make_name(f"{layer}/dequantize"),
        outputs=[output],
        shapes=[shape],
        dtypes=[dtype],
    )


def parameters_dtype(grid: Grid) -> np.dtype:
    """Return the dtype of a grid's integers."""
    return np.dtype(type(grid.zero_point))


def layer_of(node: Any) -> str | None:
    """Return the layer that a QuantizeLinear was made for by `convert`, None if it has another origin."""
    return node.name.removeprefix(MARK).rsplit("/", 1)[0] if node.name.startswith(MARK) else None
