"""tfmot's `QuantizeConfig`, and what it is for a layer of Keras 3."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import keras

from tfcompress.compat.tfmot.quantization.keras import quantizers as known
from tfcompress.core.arguments import short
from tfcompress.core.wrappers import inner_weights
from tfcompress.graph import kernel_positions
from tfcompress.quantization import quantize_config as native


class QuantizeConfig(abc.ABC):
    """How a layer is quantized: which of its weights and outputs, each with a quantizer.

    For a model of Keras 3 it says what a `tfcompress.QuantizeConfig` can: the bits of the kernels and whether each
    channel has a scale, and how the range of what the layer returns is found. `set_quantize_weights` and
    `set_quantize_activations` are called by tfmot alone.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable(package="tfmot")(cls)

    @abc.abstractmethod
    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Return the weights that are quantized, each with its quantizer."""

    @abc.abstractmethod
    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Return the activations whose output is quantized, each with its quantizer."""

    @abc.abstractmethod
    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        """Put quantized weights in the place of the layer's."""

    @abc.abstractmethod
    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        """Put quantized activations in the place of the layer's."""

    @abc.abstractmethod
    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """Return the quantizers of what the layer returns."""

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizeConfig:
        """Make a configuration from `get_config`'s result."""
        return cls(**config)


DEFAULT = native.QuantizeConfig.get("int8")


def config_for(given: Any, layer: Any) -> native.QuantizeConfig | None:
    """Return what a configuration of tfmot's kind says of a layer; `None`: nothing of it is quantized.

    Args:
        given: A `QuantizeConfig`, of this module or of tfmot; or `None` for the default.
        layer: Of Keras 3, built.

    Raises:
        ValueError: If it says what isn't done here; the message has what to do instead.
    """
    if given is None:
        return DEFAULT
    pairs = given.get_weights_and_quantizers(layer)
    outputs = [quantizer for _, quantizer in given.get_activations_and_quantizers(layer)]
    outputs += given.get_output_quantizers(layer)
    if not pairs and not outputs:
        return None
    kernels = [inner_weights(layer)[position] for position in kernel_positions(layer)]
    _check_kernels(layer, kernels, [weight for weight, _ in pairs])
    weights = _one(layer, "weights", [_weight_spec(layer, quantizer) for _, quantizer in pairs])
    activations = _one(layer, "outputs", [_activation_spec(layer, quantizer) for quantizer in outputs])
    return native.QuantizeConfig(weights=weights or native.WeightSpec(), activations=activations)


def _check_kernels(layer: Any, kernels: Sequence[Any], given: Sequence[Any]) -> None:
    others = [weight for weight in given if not any(weight is kernel for kernel in kernels)]
    if others:
        raise ValueError(
            f"Expected quantizers for the kernels of a layer. Received: one for {_name(others[0])!r} of layer "
            f"{layer.name!r}. Leave it out: biases are 32 bit integers in a file, and need no quantizer."
        )
    missing = [kernel for kernel in kernels if not any(kernel is weight for weight in given)]
    if missing:
        raise ValueError(
            f"Expected a quantizer for each kernel of a layer, or for nothing of it. Received: none for "
            f"{_name(missing[0])!r} of layer {layer.name!r}. Add (layer.{_name(missing[0])}, LastValueQuantizer(...)), "
            "or don't annotate the layer."
        )


def _weight_spec(layer: Any, quantizer: Any) -> native.WeightSpec:
    if _kind(quantizer) is not known.LastValueQuantizer:
        raise _refusal(
            layer, quantizer, "a weight", "LastValueQuantizer (tfcompress.WeightSpec(range='mse') finds a range)"
        )
    if not quantizer.symmetric:
        raise _refusal(layer, quantizer, "a weight", "symmetric=True, as integer kernels want it")
    granularity = "per_channel" if quantizer.per_axis else "per_tensor"
    return native.WeightSpec(bits=quantizer.num_bits, granularity=granularity)


RANGES: dict[str, dict[str, Any]] = {
    "MovingAverageQuantizer": {"range": "ema"},
    "LastValueQuantizer": {"range": "ema", "momentum": 0.0},
    "AllValuesQuantizer": {"range": "minmax"},
}
"""How the range of what a layer returns is found, by tfmot's quantizers."""


def _activation_spec(layer: Any, quantizer: Any) -> native.ActivationSpec:
    kind = _kind(quantizer)
    if kind is None or kind.__name__ not in RANGES:
        instead = "MovingAverageQuantizer, or calibrate with data in the range that you mean (tfcompress.calibrate)"
        raise _refusal(layer, quantizer, "an output", instead)
    if quantizer.per_axis:
        raise _refusal(layer, quantizer, "an output", "per_axis=False: integer kernels have one scale for a tensor")
    how = RANGES[kind.__name__]
    return native.ActivationSpec(bits=quantizer.num_bits, symmetric=bool(quantizer.symmetric), **how)


def _kind(quantizer: Any) -> type | None:
    """Return the class of a quantizer in this package, if it is one of tfmot's and not of someone's own."""
    cls = type(quantizer)
    of_tfmot = cls.__module__ == known.__name__ or cls.__module__.startswith("tensorflow_model_optimization.")
    return getattr(known, cls.__name__, None) if of_tfmot else None


def _refusal(layer: Any, quantizer: Any, what: str, instead: str) -> ValueError:
    kind = type(quantizer)
    given = f"{kind.__name__}({', '.join(f'{name}={value!r}' for name, value in quantizer.get_config().items())})"
    return ValueError(
        f"Expected a quantizer for {what} that tfcompress has, too. Received: {given} for layer {layer.name!r}. "
        f"Take {instead}; or give the layer a tfcompress.QuantizeConfig in tfcompress.quantize(model, {{...}})."
    )


def _one(layer: Any, what: str, specs: Sequence[Any]) -> Any:
    """Return the one specification that several are; `None` if there is none."""
    if any(spec != specs[0] for spec in specs):
        raise ValueError(
            f"Expected one kind of quantizer for all {what} of a layer. Received: {short(list(specs))} for layer "
            f"{layer.name!r}. Take the same for each."
        )
    return specs[0] if specs else None


def _name(weight: Any) -> str:
    return str(getattr(weight, "name", weight))
