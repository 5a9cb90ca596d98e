"""The statistics of batch normalization, computed anew from data."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.keras_private import flatten_layers, keras_mask
from tfcompress.core.passthrough import innermost
from tfcompress.core.sharding import gathered
from tfcompress.core.transform import put
from tfcompress.data.model_batches import batches
from tfcompress.layers.names import base_name_of
from tfcompress.quantization.graph.batch_norm_folding import Flow
from tfcompress.quantization.ptq.layerwise import Call, check_graph, in_stages, only_moving

Tensor = Any


def reestimate_batch_norm(model: keras.Model, data: Any, *, batch_size: int = 32) -> None:
    """Compute the statistics of batch normalization anew, as they are under the weights that the model has now.

    Worth it after weights were rounded, and after training with weights of few bits: these jump from one integer to
    another until the end, and moving averages lag behind; where images were augmented, it is also the statistics of
    images as they are.

    Each normalization's moving mean and variance become the mean and the variance of all that reaches it; there is no
    momentum. Normalizations are taken one after the other, each on all of the data with those before it settled, so
    that they see what they will see in inference, and one set of data gives one result, up to the rounding of sums,
    however it is cut into batches and ordered. All else is in inference mode.

    After Sun et al. 2019, "Hybrid 8-bit Floating Point (HFP8) Training and Inference for Deep Neural Networks",
    which averages the statistics of single batches.

    Args:
        model: A flat functional model, quantized or not, such as `tfc.quantize` returns; the statistics are changed in
            place, and nothing else.
        data: Some hundred or thousand samples like those that the model will see, as for `tfc.calibrate`.
        batch_size: Samples in a batch, where `data` holds arrays.

    Raises:
        ValueError: If the model isn't functional, or a normalization is inside of another layer; if `data` is empty
            or doesn't fit, or if what reaches a normalization isn't finite. The statistics are as they were then.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization()])
    >>> reestimate_batch_norm(model, np.array([[1.0], [3.0], [5.0], [7.0]], "float32"), batch_size=2)
    >>> [v.tolist() for v in model.layers[0].get_weights()[2:]]
    [[4.0], [5.0]]
    """
    check_graph(model)
    layers = [
        layer
        for layer, _ in Flow(model).layers()
        if base_name_of(innermost(layer)) == "batchnormalization" and not getattr(layer, "pinned", None)
    ]
    visible = {id(innermost(layer)) for layer, _ in Flow(model).layers()}
    for layer in flatten_layers(model):
        if base_name_of(layer) == "batchnormalization" and id(layer) not in visible:
            raise ValueError(
                f"Expected a flat model. Received: one with {layer.name!r} inside of another layer. Open it with "
                "tfcompress.graph.rebuild; what that keeps whole can't be estimated anew."
            )
    totals = {id(layer): _Moments() for layer in layers}

    def measure(operation: Any, call: Call, args: Any, kwargs: Any) -> None:
        mask = kwargs.get("mask")
        mask = keras_mask(args[0]) if mask is None else mask
        totals[id(operation)].add(args[0], innermost(operation).axis, mask)

    def adjust(operation: Any) -> None:
        norm, total = innermost(operation), totals[id(operation)]
        if not np.all(np.isfinite(total.mean + total.variance)):
            raise ValueError(
                f"Expected finite activations. Received: NaN or infinite ones before {norm.name!r} on the data. "
                "Check the data, and the weights of the layers before it."
            )
        put(norm.moving_mean, total.mean)
        put(norm.moving_variance, total.variance)

    norms = map(innermost, layers)
    with only_moving(model, [variable for norm in norms for variable in (norm.moving_mean, norm.moving_variance)]):
        in_stages(model, batches(model, data, batch_size), layers, measure, adjust)


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
            count = float(gathered(each)[0])
        if not count:
            return
        new_mean, new_variance = (np.asarray(gathered(v), "float64") for v in (mean, variance))
        total = self.count + count
        share, shift = count / total, new_mean - self.mean
        self.variance = (1 - share) * self.variance + share * new_variance + share * (1 - share) * shift**2
        self.mean = self.mean + share * shift
        self.count = total
