"""What a model costs: multiply-adds of each layer, and of each element of its weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras

from tfcompress.channels.tracker import channel_axis
from tfcompress.core.passthrough import innermost
from tfcompress.graph.inputs.sizes import batch_of
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.own_weights import Parameter
from tfcompress.graph.rewrite import Call, calls
from tfcompress.graph.sample_inputs.sample_values import sample_values
from tfcompress.graph.selectors import kernel_positions
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.einsum_equations import equation_of
from tfcompress.layers.names import name_of

Shape = tuple[int, ...]


def multiply_adds(model: keras.Model) -> dict[str, int]:
    """Return how many multiply-adds each layer does for one sample.

    Counted are the products of kernels (a convolution's window in full, also where it is padded) and those of
    attention. What is proportional to the values alone (biases, activations, normalization, pooling) isn't.

    Args:
        model: A flat functional model, as `tfcompress.graph.rebuild` returns; its layers may be wrapped.

    Returns:
        Multiply-adds by the name of the layer or operation, of those that have any. One multiply-add is two FLOPs.
        Where a size beyond the batch is free they are those of samples as `random_inputs` makes them.

    Example:

    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")])
    >>> multiply_adds(model)  # 6 * 6 positions of 3 * 3 * 3 * 4 products
    {'conv': 3888}
    """
    shapes = _shapes(model)
    found: dict[str, int] = {}
    for call in calls(model):
        times, inputs, outputs = _of_one_sample(call, shapes)
        weights = getattr(innermost(call.operation), "weights", ())
        count = sum(
            positions * math.prod(weights[at].shape) for at, positions in _positions(call, inputs, outputs).items()
        ) + sum(product.count for product in _products(call, inputs))
        if count:
            found[call.operation.name] = found.get(call.operation.name, 0) + count * times
    return found


def total_multiply_adds(model: keras.Model) -> int:
    """Return how many multiply-adds a flat functional model does for one sample; see `multiply_adds`."""
    return sum(multiply_adds(model).values())


def uses(model: keras.Model) -> dict[tuple[str, int], int]:
    """Return how many multiply-adds each element of a kernel takes part in, for one sample.

    Args:
        model: A flat functional model, as for `multiply_adds`.

    Returns:
        By the layer's name and the kernel's position in the weights of the innermost layer: the number of positions
        that the kernel is applied at, in all calls of the layer.

    Example:

    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv")])
    >>> uses(model)
    {('conv', 0): 36}
    """
    shapes = _shapes(model)
    found: dict[tuple[str, int], int] = {}
    for call in calls(model):
        times, inputs, outputs = _of_one_sample(call, shapes)
        for position, count in _positions(call, inputs, outputs).items():
            key = (call.operation.name, position)
            found[key] = found.get(key, 0) + count * times
    return found


def _shapes(model: keras.Model) -> dict[int, Shape]:
    """Return the shapes of all tensors of a graph for one sample, by `id`: it is run on random ones."""
    batch = batch_of(tuple(x.shape) for x in graph_of(model).inputs) or 1
    shapes = {key: tuple(map(int, value.shape)) for key, value in sample_values(model).items()}
    return {key: (1, *shape[1:]) if shape and shape[0] == batch else shape for key, shape in shapes.items()}


def _of_one_sample(call: Call, shapes: dict[int, Shape]) -> tuple[int, list[Shape], list[Shape]]:
    """Return how often a call is made for one sample of the model, as where steps were made samples, and its shapes."""
    times = max((shapes[id(x)][0] for x in call.inputs if x.shape and x.shape[0] is None), default=1)

    def one(x: Any) -> Shape:
        return (1, *shapes[id(x)][1:]) if x.shape and x.shape[0] is None else shapes[id(x)]

    return times, [one(x) for x in call.inputs], [one(x) for x in call.outputs]


# How often each kernel is applied ---------------------------------------------------------------------

Positions = dict[int, int]


def _positions(call: Call, inputs: list[Shape], outputs: list[Shape]) -> Positions:
    """Return, by the position of each kernel of a layer in its weights, at how many places it is applied."""
    layer = innermost(call.operation)
    if not isinstance(layer, keras.layers.Layer) or not layer.weights or isinstance(layer, Parameter):
        return {}
    how = traits_of(layer).multiplications
    if not isinstance(how, str):
        return dict.fromkeys(kernel_positions(layer), how(layer, inputs, outputs))
    return _POSITIONS[how](layer, inputs, outputs)


def _space(layer: Any, shape: Shape) -> int:
    axis = channel_axis(layer, len(shape))
    return math.prod(size for at, size in enumerate(shape) if at not in (0, axis))


def _none(layer: Any, inputs: list[Shape], outputs: list[Shape]) -> Positions:
    return {}


def _dense(layer: Any, inputs: list[Shape], outputs: list[Shape]) -> Positions:
    return dict.fromkeys(kernel_positions(layer), math.prod(inputs[0][1:-1]))


def _convolution(layer: Any, inputs: list[Shape], outputs: list[Shape]) -> Positions:
    return dict.fromkeys(kernel_positions(layer), _space(layer, outputs[0]))


def _transposed(layer: Any, inputs: list[Shape], outputs: list[Shape]) -> Positions:
    return dict.fromkeys(kernel_positions(layer), _space(layer, inputs[0]))


def _recurrent(layer: Any, inputs: list[Shape], outputs: list[Shape]) -> Positions:
    return dict.fromkeys(kernel_positions(layer), inputs[0][1])


def _einsum_dense(layer: Any, inputs: list[Shape], outputs: list[Shape]) -> Positions:
    letters = equation_of(layer, len(inputs[0]))
    if letters is None:
        return _other(layer, inputs, outputs)
    sizes = [size for letter, size in zip(letters.inputs, inputs[0], strict=True) if letter not in letters.kernel]
    return dict.fromkeys(kernel_positions(layer), math.prod(sizes))


def _other(layer: Any, inputs: list[Shape], outputs: list[Shape]) -> Positions:
    """Of a layer that isn't known: at each position of its output, all axes but the first and the last."""
    return dict.fromkeys(kernel_positions(layer), math.prod(outputs[0][1:-1]))


_POSITIONS: dict[str, Callable[[Any, list[Shape], list[Shape]], Positions]] = {
    "unknown": _other,
    "none": _none,
    "dense": _dense,
    "einsum_dense": _einsum_dense,
    "convolution": _convolution,
    "transposed": _transposed,
    "recurrent": _recurrent,
}
"""By the names that the catalogue has for them."""


# Products of two tensors ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class TensorProduct:
    """A product of two tensors, as attention has.

    Attributes:
        count: Its multiply-adds for one sample.
        axes: What that is proportional to: the size of each of these axes, a symbolic tensor and a number.
    """

    count: int
    axes: tuple[tuple[Any, int], ...]


def products(model: keras.Model) -> list[TensorProduct]:
    """Return the products of two tensors in a flat functional model, which no kernel takes part in.

    Example:

    >>> inputs = keras.Input((5, 8))
    >>> (product,) = products(keras.Model(inputs, keras.ops.matmul(inputs, keras.ops.transpose(inputs, (0, 2, 1)))))
    >>> product.count
    200
    """
    made = calls(model)
    if not any(name_of(call.operation) in ("matmul", "einsum", "dotproductattention") for call in made):
        return []
    shapes = _shapes(model)
    return [found for call in made for found in _products(call, [shapes[id(x)] for x in call.inputs])]


def _products(call: Call, inputs: list[Shape]) -> list[TensorProduct]:
    kind = name_of(call.operation)
    if kind == "matmul" and len(inputs) == 2 and min(map(len, inputs)) > 1:
        batch = "".join(chr(ord("A") + at) for at in range(max(map(len, inputs)) - 2))
        first, second = (batch[len(batch) + 2 - len(shape) :] for shape in inputs)
        return [_of_letters(call, inputs, [first + "xy", second + "yz"])]
    if kind == "einsum":
        terms = innermost(call.operation).subscripts.replace(" ", "").partition("->")[0].split(",")
        if len(terms) == 2 and "." not in "".join(terms):
            return [_of_letters(call, inputs, terms)]
    if kind == "dotproductattention":
        (_, queries, heads, width), (_, keys, *_), (*_, values) = inputs[:3]
        query, _, value = call.inputs[:3]
        scores = TensorProduct(queries * keys * heads * width, ((query, 2), (query, 3)))
        return [scores, TensorProduct(queries * keys * heads * values, ((query, 2), (value, 3)))]
    return []


def _of_letters(call: Call, inputs: list[Shape], terms: list[str]) -> TensorProduct:
    """Return the product whose letters stand for the axes of two tensors; each letter is gone through once."""
    axes: dict[str, tuple[int, Any, int]] = {}
    for x, shape, term in zip(call.inputs, inputs, terms, strict=True):
        for axis, (letter, size) in enumerate(zip(term, shape, strict=True)):
            if letter not in axes or axes[letter][0] < size:  # one of size 1 is broadcast
                axes[letter] = (size, x, axis)
    return TensorProduct(math.prod(size for size, *_ in axes.values()), tuple((x, at) for _, x, at in axes.values()))
