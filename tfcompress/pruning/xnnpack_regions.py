"""The part of a graph that XNNPACK can compute with sparse kernels, and what keeps it from that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras

from tfcompress.core.names import listed
from tfcompress.core.passthrough import innermost
from tfcompress.graph.index import index_of
from tfcompress.graph.rewrite import Call, calls
from tfcompress.layers.names import name_of, plain_name

_NO_OPERATION = {
    "dropout", "spatialdropout2d", "gaussiannoise", "gaussiandropout", "alphadropout", "identity", "linear",
    "activityregularization",
}  # fmt: skip
# What is one operator in TFLite, or made of those that are known and of products and sums with constants.
_UNARY = {
    "relu", "relu6", "leakyrelu", "elu", "sigmoid", "abs", "absolute", "ceil", "floor", "negative", "round", "square",
    "silu", "hardsilu", "hardsigmoid",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Region:
    """A part of a graph.

    Attributes:
        starts: The convolutions that it begins with.
        inside: The calls from there to the ends.
        ends: The global average poolings.
        behind: What comes after these.
    """

    starts: frozenset[Call]
    inside: frozenset[Call]
    ends: frozenset[Call]
    behind: frozenset[Call]

    @staticmethod
    def pointwise(call: Call) -> bool:
        """Return whether a call is a convolution of 1x1 pixels."""
        return name_of(call.operation) == "conv2d" and tuple(_layer(call).kernel_size) == (1, 1)


def kernel_calls(model: keras.Model, has_kernel: Callable[[Any], bool]) -> dict[str, list[Call]]:
    """Return the calls of each layer of a flat model that has a kernel, by its name, in the order in which they run."""
    found: dict[str, list[Call]] = {}
    for call in calls(model):
        if isinstance(call.operation, keras.layers.Layer) and has_kernel(call.operation):
            found.setdefault(call.operation.name, []).append(call)
    return found


def sparse_region(model: keras.Model) -> Region:
    """Find the part of a flat model that XNNPACK can compute sparsely.

    Args:
        model: As `rebuild` returns it.

    Raises:
        ValueError: If there is none: no such beginning or end, or an operation between that has no sparse form.
    """
    graph = _Graph(model)
    starts = graph.starts(model)
    ends = graph.ends(model)
    inside: set[Call] = set()
    problems: dict[str, str] = {}
    todo = [reader for start in starts for reader in graph.read_by(start)]
    while todo:
        call = todo.pop()
        if call in inside or call in ends:
            continue
        problem = graph.problem(call)
        if problem:
            problems[call.operation.name] = problem
        inside.add(call)
        todo += graph.read_by(call)
    if problems:
        found = listed((f"{name!r} {problem}" for name, problem in problems.items()), separator="; ")
        raise ValueError(
            "Expected only operations that XNNPACK computes sparsely between the first convolution and the global "
            f"average pooling. Received: {found}. Replace them, or prune without `layers`: for size, not for speed."
        )
    behind = graph.closure(ends) - inside - ends
    return Region(frozenset(starts), frozenset(inside), frozenset(ends), frozenset(behind))


class _Graph:
    """The calls of a flat model, with what is before and behind each."""

    def __init__(self, model: keras.Model):
        self.graph = index_of(model)
        self.read_by = self.graph.readers_of_call

    def closure(self, found: Iterable[Call]) -> set[Call]:
        """Return all that comes after some calls."""
        seen: set[Call] = set()
        todo = [reader for call in found for reader in self.read_by(call)]
        while todo:
            call = todo.pop()
            if call not in seen:
                seen.add(call)
                todo += self.read_by(call)
        return seen

    def before(self, call: Call) -> Call | None:
        return self.graph.producer(call.inputs[0])

    def starts(self, model: keras.Model) -> set[Call]:
        """Return the first convolutions: one in every branch from the inputs."""
        first = [reader for x in model.inputs for reader in self.graph.readers(x)]
        found, lost = self.search(first, lambda call: not self.entry_problem(call), self.read_by)
        if found and lost is None:
            return found
        tried = [call for call in self.graph if name_of(call.operation) == "conv2d"]
        near = f"{tried[0].operation.name!r} {self.entry_problem(tried[0])}" if tried else "no Conv2D"
        raise ValueError(
            "Expected a model that begins, on every way from its inputs, with a Conv2D of 3x3 pixels on 3 channels "
            "with stride 2 and one pixel of padding on each side (ZeroPadding2D(1) and padding='valid'), as XNNPACK's "
            f"sparse inference needs. Received: {model.name!r}: {near}. Change it, or prune without `layers`: for "
            "size, not for speed."
        )

    def ends(self, model: keras.Model) -> set[Call]:
        """Return the last global average poolings: one in every branch to the outputs."""
        last = [call for x in model.outputs if (call := self.graph.producer(x))]

        def sources(call: Call) -> list[Call]:
            return [one for x in call.inputs if (one := self.graph.producer(x))]

        found, lost = self.search(last, lambda call: _is_pooling(_layer(call)), sources)
        if found and lost is None:
            return found
        raise ValueError(
            "Expected a model with a GlobalAveragePooling2D on every way to its outputs, where XNNPACK's sparse "
            f"inference ends. Received: {model.name!r} without"
            + (f" on the way through {lost.operation.name!r}" if lost is not None else "")
            + ". Change it, or prune without `layers`: for size, not for speed."
        )

    @staticmethod
    def search(
        todo: list[Call], wanted: Callable[[Call], bool], following: Callable[[Call], list[Call]]
    ) -> tuple[set[Call], Call | None]:
        """Return the first wanted call of each branch, and the last call of a branch without one."""
        found: set[Call] = set()
        seen: set[Call] = set()
        while todo:
            call = todo.pop()
            if call in seen:
                continue
            seen.add(call)
            if wanted(call):
                found.add(call)
                continue
            more = following(call)
            if not more:
                return found, call
            todo = todo + more
        return found, None

    def entry_problem(self, call: Call) -> str | None:
        """Return what a call lacks of a first convolution; `None` if it is one."""
        layer = _layer(call)
        if name_of(layer) != "conv2d" or layer.data_format != "channels_last":
            return "is no Conv2D"
        if tuple(layer.kernel.shape[:3]) != (3, 3, 3):
            return f"has a kernel of the shape {tuple(layer.kernel.shape)}"
        if tuple(layer.strides) != (2, 2) or tuple(layer.dilation_rate) != (1, 1):
            return f"has the strides {tuple(layer.strides)} and the dilation {tuple(layer.dilation_rate)}"
        padding = self.padding(call, layer)
        return None if padding == _around(1) else _said(padding)

    def problem(self, call: Call) -> str | None:
        """Return why an operation has no sparse form; `None` if it has."""
        layer, name, before = _layer(call), name_of(call.operation), self.before(call)
        if name == "depthwiseconv2d":
            return self.depthwise_problem(call, layer)
        if before is not None and name_of(before.operation) == "zeropadding2d":
            return "has padding before it, which only a depthwise convolution takes in"
        if name in _RULES:
            return _RULES[name](call, layer)
        return None if name in _UNARY | _NO_OPERATION else f"({type(layer).__name__}) has no sparse form"

    def depthwise_problem(self, call: Call, layer: Any) -> str | None:
        size = layer.kernel_size[0]
        if tuple(layer.kernel_size) not in {(3, 3), (5, 5)}:
            return f"is depthwise of {layer.kernel_size[0]}x{layer.kernel_size[1]} pixels, not 3x3 or 5x5"
        if layer.depth_multiplier != 1 or tuple(layer.dilation_rate) != (1, 1):
            return "is depthwise with a multiplier or a dilation"
        if tuple(layer.strides) not in {(1, 1), (2, 2)}:
            return f"is depthwise with the strides {tuple(layer.strides)}"
        padding = self.padding(call, layer)
        if padding != _around(size // 2):
            return f"{_said(padding)}: ZeroPadding2D({size // 2}) and padding='valid' do"
        return _activation_problem(layer)

    def padding(self, call: Call, layer: Any) -> tuple[tuple[int, int], ...] | None:
        """Return the pixels around the input of a convolution: (top, bottom), (left, right).

        `None`: XNNPACK isn't told, as of padding="same" with a stride: it turns that into pixels for stride 1 alone.
        """
        if layer.padding == "valid":
            before = self.before(call)
            if before is not None and name_of(before.operation) == "zeropadding2d":
                return tuple(tuple(pair) for pair in _layer(before).padding)
            return _around(0)
        return _around(layer.kernel_size[0] // 2) if tuple(layer.strides) == (1, 1) else None


def _pointwise_problem(call: Call, layer: Any) -> str | None:
    if tuple(layer.kernel_size) != (1, 1):
        return f"is a convolution of {layer.kernel_size[0]}x{layer.kernel_size[1]} pixels, not 1x1"
    if layer.groups != 1 or tuple(layer.strides) != (1, 1) or tuple(layer.dilation_rate) != (1, 1):
        return "is a convolution with groups, strides or a dilation"
    return _activation_problem(layer)


def _relu_problem(call: Call, layer: Any) -> str | None:
    most = getattr(layer, "max_value", None)
    return None if most in (None, 6) else f"cuts off at {most}, not at 6"


def _normalization_problem(call: Call, layer: Any) -> str | None:
    axis = layer.axis[0] if isinstance(layer.axis, list | tuple) else layer.axis
    return None if axis in (-1, 3) else f"normalizes along axis {axis}, not along the channels"


def _pooling_problem(call: Call, layer: Any) -> str | None:
    return None if layer.keepdims else "is without keepdims=True"


def _upsampling_problem(call: Call, layer: Any) -> str | None:
    return None if layer.interpolation == "bilinear" else f"is {layer.interpolation} upsampling, not bilinear"


def _sum_problem(call: Call, layer: Any) -> str | None:
    return None if all(len(x.shape) == 4 for x in call.inputs) else "takes a tensor of other than 4 dimensions"


_RULES: dict[str, Callable[[Call, Any], str | None]] = {
    "add": _sum_problem,
    "batchnormalization": _normalization_problem,
    "conv2d": _pointwise_problem,
    "globalaveragepooling2d": _pooling_problem,
    "multiply": _sum_problem,
    "relu": _relu_problem,
    "upsampling2d": _upsampling_problem,
    "zeropadding2d": lambda call, layer: None,  # what reads it says whether it takes it in
}
"""What an operation must fulfil, by its name."""


def _activation_problem(layer: Any) -> str | None:
    name = plain_name(layer.activation)
    return None if name in _UNARY | _NO_OPERATION else f"has the activation {name!r}, which has no sparse form"


def _is_pooling(layer: Any) -> bool:
    return name_of(layer) == "globalaveragepooling2d"


def _layer(call: Call) -> Any:
    return innermost(call.operation)


def _around(pixels: int) -> tuple[tuple[int, int], ...]:
    return ((pixels, pixels), (pixels, pixels))


def _said(padding: tuple[tuple[int, int], ...] | None) -> str:
    """Return how a convolution is padded, in words."""
    if padding is None:
        return "is padded with padding='same' at a stride, of which XNNPACK isn't told how much it is"
    if padding == _around(0):
        return "isn't padded"
    return " and ".join(f"is padded by {first} before and {last} behind" for first, last in dict.fromkeys(padding))
