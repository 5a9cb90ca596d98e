"""The biases of a quantized model, corrected with data."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import ops

from tfcompress.core.names import listed
from tfcompress.core.passthrough import innermost
from tfcompress.core.sharding import gathered
from tfcompress.core.transform import put, read
from tfcompress.data.model_batches import batches
from tfcompress.graph.stateful_layers import beginning
from tfcompress.layers.channel_axes import channels_of
from tfcompress.layers.names import base_name_of
from tfcompress.quantization.graph.batch_norm_folding import Flow, affine_of
from tfcompress.quantization.ptq.layerwise import Call, check_graph, in_stages, only_moving, run
from tfcompress.quantization.ptq.randomness import random_layers
from tfcompress.quantization.ptq.reference_layers import linear, names_of

Tensor = Any


def correct_bias(quantized: keras.Model, reference: keras.Model, data: Any, batch_size: int = 32) -> None:
    """Correct the biases of a quantized model so that each layer's mean output is that of the float model.

    For each layer with a kernel and a bias, the mean of its output before any activation, over samples and positions
    and for each channel, is compared in both models, and the difference is added to the bias. Where a layer has no
    bias and a batch normalization alone follows, that one's beta is corrected (without beta, its moving mean).
    Layers without either are left as they are. Layers that draw random numbers in inference draw the same in both
    models; what is behind one that has no `keras.random.SeedGenerator` of its own is left as it is, with a warning.

    Layers are corrected one after the other, each on all of the data with those before it corrected. So one set of
    data gives one result, up to the rounding of sums, however it is cut into batches and ordered.

    The empirical form of bias correction: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and
    Bias Correction", section 4.2.

    Args:
        quantized: A flat functional model; its biases are changed in place, and nothing else.
        reference: The float model: functional, flat, with layers of the same names, and none of its variables shared
            with `quantized`; activations may be fused in the one and layers of their own in the other.
        data: A few hundred samples: what `tfcompress.data.model_batches.batches` takes.
        batch_size: Samples in a batch, where `data` holds arrays.

    Raises:
        ValueError: If a model isn't functional, if both share variables or no layer, if `data` is empty or doesn't
            fit, or if an output isn't finite. The biases are as they were then.

    Example:

    >>> import keras, numpy as np
    >>> make = lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")])
    >>> reference, quantized = make(), make()
    >>> reference.set_weights([np.array([[0.75], [0.0]]), np.zeros(1)])
    >>> quantized.set_weights([np.array([[0.5], [0.0]]), np.zeros(1)])
    >>> correct_bias(quantized, reference, np.array([[0.0, 1.0], [2.0, 3.0]], "float32"))
    >>> quantized.get_weights()[1].tolist()
    [0.25]
    """
    for model in (quantized, reference):
        check_graph(model)
    own = {id(variable) for variable in quantized.variables}
    shared = next((variable.path for variable in reference.variables if id(variable) in own), None)
    if shared is not None:
        raise ValueError(
            f"Expected a reference with variables of its own. Received: both models have {shared!r}. Make it with "
            "tfcompress.graph.rebuild, before the quantized model is made."
        )
    points = _points(quantized, reference)
    with only_moving(quantized, []), only_moving(reference, []):
        data = list(batches(quantized, data, batch_size))
        points = _deterministic(points, reference, data)
    by_layer = {id(point.layer): point for point in points}
    wanted = {id(point.reference): _Mean(tuple(point.variable.shape)) for point in points}
    found = {id(point.layer): _Mean(tuple(point.variable.shape)) for point in points}

    def measure(operation: Any, call: Call, args: Any, kwargs: Any) -> Any:
        if id(operation) in wanted:
            with linear(operation):
                wanted[id(operation)].add(call(*args, **kwargs))
        return call(*args, **kwargs)

    def look(operation: Any, call: Call, args: Any, kwargs: Any) -> None:
        with linear(operation):
            found[id(operation)].add(call(*args, **kwargs))

    def adjust(operation: Any) -> None:
        point = by_layer[id(operation)]
        with np.errstate(invalid="ignore"):  # infinite means: `correct` says so
            lacking = wanted[id(point.reference)].value - found[id(operation)].value
        point.correct(lacking)

    variables = [point.variable for point in points]
    with only_moving(quantized, variables), only_moving(reference, []):
        with beginning(reference):
            for number, batch in enumerate(data):
                run(reference, batch, measure, number=number)
        in_stages(quantized, data, [point.layer for point in points], look, adjust)


@dataclasses.dataclass(eq=False)
class _Point:
    """A layer whose mean output is corrected through one of its variables.

    `gain` is what the variable changes by for each unit that the output is to change by.
    """

    layer: L.Layer
    reference: L.Layer
    variable: keras.Variable
    gain: np.ndarray

    def correct(self, lacking: np.ndarray) -> None:
        """Move the variable by what the mean lacks."""
        if not np.all(np.isfinite(lacking)):
            raise ValueError(
                f"Expected finite activations. Received: NaN or infinite ones from {self.layer.name!r} on the data. "
                "Check the data, and the weights of that layer and of those before it."
            )
        put(self.variable, read(self.variable).astype("float64") + self.gain * lacking)


def _deterministic(points: list[_Point], reference: keras.Model, data: list[list[Any]]) -> list[_Point]:
    """Return the points whose means can be compared: what draws otherwise each time isn't in front of them."""
    names, behind = random_layers(reference, data[0])
    kept = [point for point in points if id(point.reference) not in behind]
    if len(kept) < len(points):
        warnings.warn(
            f"The biases behind {', '.join(map(repr, names))} are not corrected: it draws random numbers in inference, "
            "others in the float model than in the quantized one. Give the layer a keras.random.SeedGenerator as "
            "an attribute, and draw with seed= it.",
            stacklevel=5,
        )
    return kept


def _points(quantized: keras.Model, reference: keras.Model) -> list[_Point]:
    flow = Flow(quantized)
    named: dict[str, L.Layer] = {}
    for layer, _ in Flow(reference).layers():
        named.setdefault(layer.name, layer)
        named.setdefault(innermost(layer).name, layer)
    kernels = [(layer, of) for layer, of in flow.layers() if channels_of(layer) is not None]
    if kernels and not any(names_of(layer) & named.keys() for layer, _ in kernels):
        raise ValueError(
            f"Expected a reference with layers of the same names. Received: {reference.name!r}, which has none of "
            f"{listed(repr(layer.name) for layer, _ in kernels)}. Make both from one model."
        )
    points: dict[int, _Point] = {}
    for layer, of in kernels:
        bias = innermost(layer).bias
        if bias is not None:
            for name in sorted(names_of(layer) & named.keys(), key=lambda name: name != innermost(layer).name):
                same = innermost(named[name])
                if getattr(same, "bias", None) is not None and tuple(same.bias.shape) == tuple(bias.shape):
                    points[id(layer)] = _Point(layer, named[name], bias, np.ones(()))
                    break
            continue
        for call in of:
            after = flow.only_consumer(call)
            if after is None or id(after.operation) in points:
                continue
            point = _point_of_norm(after.operation, named, len(after.inputs[0].shape))
            if point is not None:
                points[id(after.operation)] = point
    return list(points.values())


def _point_of_norm(layer: Any, named: dict[str, L.Layer], rank: int) -> _Point | None:
    norm = innermost(layer)
    same = named.get(norm.name)
    if {base_name_of(norm), base_name_of(innermost(same))} != {"batchnormalization"}:
        return None
    if norm.axis not in (-1, rank - 1) or getattr(layer, "pinned", None):
        return None
    if norm.center:
        return _Point(layer, same, norm.beta, np.ones(()))
    scale = affine_of(norm)[0]
    gain = np.where(scale == 0, 0.0, -1 / np.where(scale == 0, 1.0, scale))
    return _Point(layer, same, norm.moving_mean, gain)


class _Mean:
    """The mean of all batches, over all axes that a variable of this shape doesn't tell apart; float64."""

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
        self.value: np.ndarray = np.zeros(shape)
        self.count = 0

    def add(self, x: Tensor) -> None:
        """Take in one batch, which counts as much as it has values."""
        first = len(x.shape) - len(self.shape)
        axes = (*range(first), *(first + axis for axis, size in enumerate(self.shape) if size == 1))
        mean = ops.mean(ops.cast(x, "float32"), axis=axes, keepdims=True)
        count = math.prod(x.shape[axis] for axis in axes)
        self.count += count
        new = np.asarray(gathered(mean), "float64").reshape(self.shape)
        self.value = self.value + (new - self.value) * (count / self.count)
