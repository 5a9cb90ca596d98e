"""Channels that differ too much for one scale on data that came too late for `quantize`, or that it doesn't use."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.core.wrapper import wrapped_layers
from tfcompress.graph import kernel_positions
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.rewrite import Call, calls_forgotten, rewritten
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer, wanted_activations
from tfcompress.quantization.graph.layer_precisions import LayerPrecisions
from tfcompress.quantization.imbalance.detection import lost_on
from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.quantization.weights.uniform import WeightQuantizer

OTHER = 4.0
"""By what factor the size of a channel of the inputs must have changed for the tensors to be looked at again."""


def differs(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    """Return whether calibration sees channels of other sizes than before, or for the first time.

    Args:
        old: What it saw before, as `Seen.found` gives it; `None`: nothing.
        new: What it sees now.

    >>> differs({"x": [[0.0, 0.0], [1.0, 9.0], [False, False]]}, {"x": [[0.0, 0.0], [1.5, 8.0], [False, False]]})
    False
    """
    if old is None or old.keys() != new.keys():
        return True
    for name, (low, high, _) in new.items():
        before, now = (np.subtract(*ends) for ends in ((old[name][1], old[name][0]), (high, low)))
        if before.shape != now.shape or np.any(now > OTHER * before) or np.any(before > OTHER * now):
            return True
    return False


def warn_of_lost(model: keras.Model, data: Any, batch_size: int) -> None:
    """Warn of each tensor whose channels one scale would lose, which `quantize` would have kept float.

    Args:
        model: Quantized, with ranges.
        data: For calibration.
        batch_size: Samples in a batch, where `data` holds arrays.
    """
    quantizers = {
        layer.name: t for layer in wrapped_layers(model) for _, t in layer.transforms if isinstance(t, WeightQuantizer)
    }
    activations = wanted_activations(model)
    if not quantizers or activations is None:
        return
    own = {name: QuantizeConfig(weights=t.spec, activations=t.activations) for name, t in quantizers.items()}
    first = next(iter(own.values()))
    alike = all(config == first for config in own.values())  # in files of before, without what is meant of activations
    common = QuantizeConfig(weights=first.weights, activations=activations)
    precisions = LayerPrecisions(common, {} if alike else own)

    def without_quantizers(call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        passes = isinstance(call.operation, ActivationQuantizer)
        return arguments[0] if passes else call.operation(*arguments, **keywords)

    def includes(layer: Any) -> bool:
        return layer.name in quantizers or not kernel_positions(layer)

    with calls_forgotten(model):
        found = lost_on(rewritten(model, without_quantizers), precisions, includes, data, batch_size)
    for sentence in found:
        warnings.warn(
            f"{sentence} This model was quantized without data, or with other data: quantize the float model with "
            "data=, which keeps float, or moves, what that takes.",
            stacklevel=5,
        )


def warn_of_raw(
    lowered: FlatGraph, precisions: LayerPrecisions, includes: Callable[[Any], bool], data: Any, size: int
) -> None:
    """Warn of inputs of very different size that kernels read, where a recipe keeps nothing float for that.

    Args:
        lowered: The graph.
        precisions: Of a recipe that rounds activations at run time, or weights alone.
        includes: Which layers are quantized.
        data: Like what the model will see.
        size: Samples in a batch, where `data` holds arrays.
    """
    for sentence in lost_on(lowered, precisions, includes, data, size):
        warnings.warn(
            f"{sentence} This recipe rounds all the same: keep the layer that reads them float with layers=, take "
            "config='int8', or scale them with a Normalization in front.",
            stacklevel=5,
        )
