"""Models that the TensorFlow Model Optimization toolkit wrapped: without its wrappers, with their masks and ranges.

Its layers are those of Keras 2; it is imported only for a file that holds some.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.core.wrappers import inner_weights
from tfcompress.loading.keras2_packages import original_tfmot
from tfcompress.loading.tfmot_private import layer_before, quantized_weights
from tfcompress.pruning.fixed_masks import with_masks
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.quantize import quantize

WRAPPERS = (
    "PruneLowMagnitude",
    "ClusterWeights",
    "ClusterWeightsMHA",
    "QuantizeWrapper",
    "QuantizeWrapperV2",
    "QuantizeLayer",
    "QuantizeAnnotate",
)
RANGES = ("post_activation", "output", "pre_activation")
"""Of which tensors a quantization wrapper has ranges; the first that there is is that of its output."""


@dataclasses.dataclass
class Carried:
    """What wrappers knew, by the names of the layers that they were around.

    Attributes:
        masks: Of the kernels, by their names.
        ranges: Of the outputs.
        bits: Of the weights; `None`: they weren't quantized.
    """

    masks: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    bits: int | None = None


def is_wrapped(config: Any) -> bool:
    """Return whether a model's configuration holds wrappers of tfmot.

    >>> is_wrapped({"layers": [{"class_name": "PruneLowMagnitude", "config": {}}]})
    True
    """
    if isinstance(config, Mapping):
        name = str(config.get("class_name")).rpartition(">")[2]
        return name in WRAPPERS or any(map(is_wrapped, config.values()))
    return isinstance(config, list) and any(map(is_wrapped, config))


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """Let tf_keras know tfmot's layers."""
    tfmot = original_tfmot()
    with contextlib.ExitStack() as scopes:
        for make in (tfmot.sparsity.keras.prune_scope, tfmot.quantization.keras.quantize_scope):
            scopes.enter_context(make())
        scopes.enter_context(tfmot.clustering.keras.cluster_scope())
        yield


def stripped(legacy: Any) -> tuple[Any, Carried]:
    """Return a tf_keras model without wrappers of tfmot, and what they knew."""
    tfmot = original_tfmot()
    carried = Carried()
    for layer in _layers(legacy):
        if type(layer).__name__ == "PruneLowMagnitude":
            masks = carried.masks.setdefault(layer.layer.name, {})
            for weight, mask, _ in layer.pruning_vars:
                kept = np.asarray(mask) != 0
                weight.assign(np.where(kept, np.asarray(weight), 0))
                masks[_short(weight)] = kept
    legacy = tfmot.clustering.keras.strip_clustering(tfmot.sparsity.keras.strip_pruning(legacy))
    return (_without_quantizers(legacy, carried) if _is_quantized(legacy) else legacy), carried


def carry(model: keras.Model, carried: Carried) -> keras.Model:
    """Return a Keras 3 model with the masks and ranges that the wrappers had, where it has a place for them."""
    if carried.masks:

        def kept(layer: Any, position: int) -> np.ndarray | None:
            weight = inner_weights(layer)[position]
            mask = carried.masks.get(layer.name, {}).get(weight.name)
            return mask if mask is not None and mask.shape == tuple(weight.shape) else None

        model = with_masks(model, kept)
    if carried.bits is None:
        return model
    if carried.bits != 8:
        warnings.warn(
            f"Expected weights and activations in 8 bits. Received: a model that tfmot quantized in {carried.bits}. It "
            "is loaded in float; quantize it with tfcompress.quantize.",
            stacklevel=2,
        )
        return model
    try:
        quantized = quantize(model, "int8")
    except (ValueError, TypeError) as error:
        warnings.warn(f"The model is loaded in float, since it can't be quantized as tfmot did: {error}", stacklevel=2)
        return model
    missing = []
    names = {layer.name for layer in model.layers}
    for quantizer in activation_quantizers(quantized):
        if quantizer.learns:
            found = carried.ranges.get(_layer_of(quantizer.source, names))
            if found is not None:
                quantizer.nonnegative = quantizer.nonnegative and found[0] >= 0  # a moving average from below 0
                quantizer.set_range(*found)
            else:
                missing.append(quantizer.source)
    if missing:
        warnings.warn(
            f"Expected a range for each tensor that is quantized. Received: none from tfmot for the output of "
            f"{', '.join(map(repr, missing))}. Call tfcompress.calibrate(model, data) before the model is exported.",
            stacklevel=2,
        )
    return quantized


def _layer_of(source: str, names: set[str]) -> str:
    """Return the layer that a tensor of the quantized model is the output of.

    >>> _layer_of("hidden_relu", {"hidden", "hid"})
    'hidden'
    """
    parts = [name for name in names if source.startswith(f"{name}_")]
    return source if source in names or not parts else max(parts, key=len)


def _layers(model: Any) -> Iterator[Any]:
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers(layer)


def _short(weight: Any) -> str:
    """Return "kernel" of "prune_low_magnitude_dense/kernel:0"."""
    return str(weight.name).split(":")[0].rpartition("/")[2]


def _is_wrapper(layer: Any) -> bool:
    return type(layer).__name__ in ("QuantizeWrapper", "QuantizeWrapperV2", "QuantizeAnnotate")


def _is_quantized(model: Any) -> bool:
    return any(_is_wrapper(layer) or type(layer).__name__ == "QuantizeLayer" for layer in _layers(model))


def _without_quantizers(legacy: Any, carried: Carried) -> Any:
    """Return a copy without quantizers; note the ranges that they had."""
    import tf_keras

    weights: dict[str, dict[str, np.ndarray]] = {}

    def clone(layer: Any) -> Any:
        if isinstance(layer, tf_keras.Model):
            return tf_keras.models.clone_model(layer, clone_function=clone)
        if type(layer).__name__ == "QuantizeLayer":
            _note_range(layer, _source(layer), carried, (layer.name,))
            return tf_keras.layers.Activation("linear", name=layer.name)
        inner = layer.layer if _is_wrapper(layer) else layer
        if inner is not layer:
            _note_range(layer, inner.name, carried, RANGES)
            for _, quantizer, _ in quantized_weights(layer):
                carried.bits = max(carried.bits or 0, int(getattr(quantizer, "num_bits", 8)))
            if hasattr(inner, "activation"):
                inner.activation = _plain(inner.activation)
        held = [*layer.weights, *(weight for weight, _, _ in quantized_weights(layer))]
        weights[inner.name] = {_short(weight): np.asarray(weight) for weight in held}
        return type(inner).from_config(inner.get_config())

    plain = tf_keras.models.clone_model(legacy, clone_function=clone)
    if not plain.built:
        plain.build(legacy.input_shape)
    for layer in _layers(plain):
        if layer.name in weights and layer.weights:
            layer.set_weights([weights[layer.name][_short(weight)] for weight in layer.weights])
    return plain


def _source(layer: Any) -> str:
    """Return the name of the layer whose output a layer is given."""
    return layer_before(layer).name


def _note_range(layer: Any, name: str, carried: Carried, kinds: tuple[str, ...]) -> None:
    values = {_short(weight): np.asarray(weight) for weight in layer.weights}
    for kind in kinds:
        low, high = values.get(f"{kind}_min"), values.get(f"{kind}_max")
        if low is not None and high is not None and low.size == high.size == 1 and low < high:
            carried.bits = carried.bits or 8
            carried.ranges[name] = (float(np.minimum(low, 0)), float(np.maximum(high, 0)))
            return


def _plain(activation: Any) -> Any:
    """Return the activation that tfmot's own ones are around."""
    import tf_keras

    while hasattr(activation, "activation") and not isinstance(activation, tf_keras.layers.Layer):
        activation = activation.activation
    return tf_keras.activations.linear if type(activation).__name__ == "NoOpActivation" else activation
