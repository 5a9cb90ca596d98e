"""What quantization shifts, put right again from data: biases, and the statistics of batch normalization."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import ops

from tfcompress.quantization.batches import batches
from tfcompress.quantization.channels import channels_of, innermost
from tfcompress.quantization.folding import Flow, affine_of
from tfcompress.surgery.inputs import graph_of, is_graph
from tfcompress.transform import read

Tensor = Any
Call = Callable[..., Any]


def correct_bias(quantized: keras.Model, reference: keras.Model, data: Any, batch_size: int = 32) -> None:
    """Correct the biases of a quantized model so that each layer's mean output is that of the float model.

    For each layer with a kernel and a bias, the mean of its output before any activation, over samples and positions
    and for each channel, is compared in both models, and the difference is added to the bias. Where a layer has no
    bias and a batch normalization alone follows, that one's beta is corrected (without beta, its moving mean).
    Layers without either are left as they are.

    Layers are corrected in the order in which they are called, in one pass over the data: within each batch a layer
    sees the outputs of corrected layers before it, and its bias is the running average of what all batches so far
    have asked for, as if they were called one after the other on all data.

    The empirical form of bias correction: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and
    Bias Correction", section 4.2.

    Args:
        quantized: A flat functional model; its biases are changed in place, and nothing else.
        reference: The float model: functional, flat, with layers of the same names, and none of its variables shared
            with `quantized`; activations may be fused in the one and layers of their own in the other.
        data: A few hundred samples: what `tfcompress.quantization.batches.batches` takes.
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
        _check_graph(model)
    own = {id(variable) for variable in quantized.variables}
    shared = next((variable.path for variable in reference.variables if id(variable) in own), None)
    if shared is not None:
        raise ValueError(
            f"Expected a reference with variables of its own. Received: both models have {shared!r}. Make it with "
            "tfcompress.surgery.rebuild, before the quantized model is made."
        )
    points = _points(quantized, reference)
    by_layer = {id(point.layer): point for point in points}
    by_reference: dict[int, list[np.ndarray]] = {id(point.reference): [] for point in points}

    def measure(operation: Any, call: Call, args: Any, kwargs: Any) -> Any:
        if id(operation) in by_reference:
            with _linear(operation):
                by_reference[id(operation)].append(_mean(call(*args, **kwargs), shapes[id(operation)]))
        return call(*args, **kwargs)

    def correct(operation: Any, call: Call, args: Any, kwargs: Any) -> Any:
        point = by_layer.get(id(operation))
        if point is not None:
            with _linear(operation):
                point.means.append(_mean(call(*args, **kwargs), point.shape))
            if len(point.means) == point.calls:
                point.correct(np.mean(by_reference[id(point.reference)], axis=0), share)
        return call(*args, **kwargs)

    shapes = {id(point.reference): point.shape for point in points}
    variables = [point.variable for point in points]
    seen = 0
    with _only_moving(quantized, variables), _only_moving(reference, []):
        for batch in batches(quantized, data, batch_size):
            seen += len(batch[0])
            share = len(batch[0]) / seen
            for means in by_reference.values():
                means.clear()
            _run(reference, batch, measure)
            _run(quantized, batch, correct)


@dataclasses.dataclass(eq=False)
class _Point:
    """A layer whose mean output is corrected through one of its variables.

    `gain` is what the variable changes by for each unit that the output is to change by; `means` are those of the
    calls of the layer in the batch that is under way.
    """

    layer: L.Layer
    reference: L.Layer
    variable: keras.Variable
    gain: np.ndarray
    calls: int
    means: list[np.ndarray] = dataclasses.field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    def correct(self, wanted: np.ndarray, share: float) -> None:
        """Move the variable by a share of what the mean lacks."""
        lacking = wanted - np.mean(self.means, axis=0)
        self.means.clear()
        if not np.all(np.isfinite(lacking)):
            raise ValueError(
                f"Expected finite activations. Received: NaN or infinite ones from {self.layer.name!r} on the data. "
                "Check the data, and the weights of that layer and of those before it."
            )
        self.variable.assign(read(self.variable).astype("float64") + share * self.gain * lacking)


def _points(quantized: keras.Model, reference: keras.Model) -> list[_Point]:
    flow = Flow(quantized)
    named: dict[str, L.Layer] = {}
    for layer, _ in Flow(reference).layers():
        named.setdefault(layer.name, layer)
        named.setdefault(innermost(layer).name, layer)
    kernels = [(layer, of) for layer, of in flow.layers() if channels_of(layer) is not None]
    if kernels and not any(_names(layer) & named.keys() for layer, _ in kernels):
        raise ValueError(
            f"Expected a reference with layers of the same names. Received: {reference.name!r}, which has none of "
            f"{', '.join(repr(layer.name) for layer, _ in kernels[:8])}. Make both from one model."
        )
    points: dict[int, _Point] = {}
    for layer, of in kernels:
        bias = innermost(layer).bias
        if bias is not None:
            for name in sorted(_names(layer) & named.keys(), key=lambda name: name != innermost(layer).name):
                same = innermost(named[name])
                if getattr(same, "bias", None) is not None and tuple(same.bias.shape) == tuple(bias.shape):
                    points[id(layer)] = _Point(layer, named[name], bias, np.ones(()), len(of))
                    break
            continue
        for call in of:
            after = flow.only_consumer(call)
            if after is None or id(after.operation) in points:
                continue
            point = _point_of_norm(after.operation, named, len(after.inputs[0].shape), len(flow.of(after.operation)))
            if point is not None:
                points[id(after.operation)] = point
    return list(points.values())


def _names(layer: L.Layer) -> set[str]:
    """Return the names that a layer may have in the float model, where its parts may be one layer still."""
    names = {layer.name, innermost(layer).name}
    for part in ("_linear", "_pointwise"):  # what is behind an activation or a depthwise convolution of its own
        names |= {name.removesuffix(part) for name in names}
    return names


def _point_of_norm(layer: Any, named: dict[str, L.Layer], rank: int, calls: int) -> _Point | None:
    norm = innermost(layer)
    same = named.get(norm.name)
    if not isinstance(norm, L.BatchNormalization) or not isinstance(innermost(same), L.BatchNormalization):
        return None
    if norm.axis not in (-1, rank - 1) or getattr(layer, "pinned", None):
        return None
    if norm.center:
        return _Point(layer, same, norm.beta, np.ones(()), calls)
    scale = affine_of(norm)[0]
    gain = np.where(scale == 0, 0.0, -1 / np.where(scale == 0, 1.0, scale))
    return _Point(layer, same, norm.moving_mean, gain, calls)


def _mean(x: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """Return the mean over all axes that a bias of this shape doesn't tell apart, in that shape, float64."""
    first = len(x.shape) - len(shape)
    axes = (*range(first), *(first + axis for axis, size in enumerate(shape) if size == 1))
    mean = ops.mean(ops.cast(x, "float32"), axis=axes, keepdims=True)
    return np.asarray(ops.convert_to_numpy(mean), "float64").reshape(shape)


@contextlib.contextmanager
def _linear(layer: L.Layer) -> Iterator[None]:
    """Leave the activation of a layer out for the time of the block."""
    attributes = vars(innermost(layer))
    if attributes.get("activation") is None:
        yield
        return
    activation = attributes["activation"]
    attributes["activation"] = keras.activations.linear
    try:
        yield
    finally:
        attributes["activation"] = activation


def reestimate_batch_norms(model: keras.Model, data: Any, batch_size: int = 32) -> None:
    """Compute the statistics of batch normalization anew, as they are under the weights that the model has now.

    Each normalization's moving mean and variance become the mean and the variance of all that reaches it, over all
    batches, whatever their sizes; there is no momentum. It is done in one pass, in the order in which the layers are
    called: in each batch a normalization first takes the batch into its statistics and then normalizes with them, so
    those behind it see what they will see in inference, up to what the first batches lack. All else is in inference
    mode.

    After Sun et al. 2019, "Hybrid 8-bit Floating Point (HFP8) Training and Inference for Deep Neural Networks",
    which averages the statistics of single batches.

    Args:
        model: A flat functional model, quantized or not; the statistics are changed in place, and nothing else.
        data: A few hundred samples: what `tfcompress.quantization.batches.batches` takes.
        batch_size: Samples in a batch, where `data` holds arrays.

    Raises:
        ValueError: If the model isn't functional, or a normalization is inside of another layer; if `data` is empty
            or doesn't fit, or if what reaches a normalization isn't finite. The statistics are as they were then.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization()])
    >>> reestimate_batch_norms(model, np.array([[1.0], [3.0], [5.0], [7.0]], "float32"), batch_size=2)
    >>> [v.tolist() for v in model.layers[0].get_weights()[2:]]
    [[4.0], [5.0]]
    """
    _check_graph(model)
    norms = {
        id(layer): innermost(layer)
        for layer, _ in Flow(model).layers()
        if isinstance(innermost(layer), L.BatchNormalization) and not getattr(layer, "pinned", None)
    }
    visible = {id(innermost(layer)) for layer, _ in Flow(model).layers()}
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization) and id(layer) not in visible:
            raise ValueError(
                f"Expected a flat model. Received: one with {layer.name!r} inside of another layer. Open it with "
                "tfcompress.surgery.rebuild; what that keeps whole can't be estimated anew."
            )
    totals = {key: _Moments() for key in norms}

    def update(operation: Any, call: Call, args: Any, kwargs: Any) -> Any:
        norm = norms.get(id(operation))
        if norm is not None:
            mask = kwargs.get("mask")
            mask = getattr(args[0], "_keras_mask", None) if mask is None else mask
            total = totals[id(operation)]
            total.add(args[0], norm.axis, mask)
            if not np.all(np.isfinite(total.mean + total.variance)):
                raise ValueError(
                    f"Expected finite activations. Received: NaN or infinite ones before {norm.name!r} on the data. "
                    "Check the data, and the weights of the layers before it."
                )
            norm.moving_mean.assign(total.mean)
            norm.moving_variance.assign(total.variance)
        return call(*args, **kwargs)

    moving = [variable for norm in norms.values() for variable in (norm.moving_mean, norm.moving_variance)]
    with _only_moving(model, moving):
        for batch in batches(model, data, batch_size):
            _run(model, batch, update)


class _Moments:
    """The count, mean and variance of all batches so far, merged as Chan, Golub and LeVeque (1979) do."""

    def __init__(self) -> None:
        self.count = 0.0
        self.mean: np.ndarray = np.zeros(())
        self.variance: np.ndarray = np.zeros(())

    def add(self, x: Tensor, axis: int, mask: Tensor | None) -> None:
        """Merge a batch's, over all axes but one, of the values that the mask leaves."""
        x = ops.cast(x, "float32")
        axes = tuple(i for i in range(len(x.shape)) if i != axis % len(x.shape))
        if mask is None:
            mean, variance = ops.moments(x, axes)
            count = float(np.prod([x.shape[i] for i in axes], dtype="float64"))
        else:
            weight = ops.broadcast_to(ops.expand_dims(ops.cast(mask, "float32"), -1), ops.shape(x))
            each = ops.sum(weight, axes)
            mean = ops.sum(weight * x, axes) / ops.maximum(each, 1.0)
            centered = x - ops.expand_dims(mean, axes)
            variance = ops.sum(weight * ops.square(centered), axes) / ops.maximum(each, 1.0)
            count = float(ops.convert_to_numpy(each)[0])
        if not count:
            return
        new_mean, new_variance = (np.asarray(ops.convert_to_numpy(v), "float64") for v in (mean, variance))
        total = self.count + count
        share, shift = count / total, new_mean - self.mean
        self.variance = (1 - share) * self.variance + share * new_variance + share * (1 - share) * shift**2
        self.mean = self.mean + share * shift
        self.count = total


def _check_graph(model: Any) -> None:
    if not isinstance(model, keras.Model) or not is_graph(model):
        raise ValueError(
            f"Expected a functional model. Received: {model!r} of type {type(model).__name__}. Make one of it with "
            "tfcompress.surgery.rebuild."
        )


def _run(model: keras.Model, batch: list[Any], visit: Callable[[Any, Call, Any, Any], Any]) -> None:
    """Run a batch through a graph in inference mode, layer by layer, each called by `visit(layer, call, ...)`."""
    graph = graph_of(model)

    def operation_fn(operation: Any) -> Call:
        in_training = isinstance(operation, L.Layer) and operation._call_has_training_arg

        def call(*args: Any, **kwargs: Any) -> Any:
            return operation(*args, **{**kwargs, "training": False} if in_training else kwargs)

        return lambda *args, **kwargs: visit(operation, call, args, kwargs)

    arrays = [ops.convert_to_tensor(x, dtype=declared.dtype) for x, declared in zip(batch, graph.inputs, strict=True)]
    graph._run_through_graph(arrays, operation_fn=operation_fn)


@contextlib.contextmanager
def _only_moving(model: keras.Model, moving: list[keras.Variable]) -> Iterator[None]:
    """Put all state but that in `moving` back at the end of the block, and that too if it fails."""
    ids = {id(variable) for variable in moving}
    before = [(variable, read(variable)) for variable in moving]
    state = [(variable, read(variable)) for variable in model.non_trainable_variables if id(variable) not in ids]
    try:
        yield
    except BaseException:
        for variable, value in before:
            variable.assign(value)
        raise
    finally:
        for variable, value in state:
            variable.assign(value)
