"""tfmot's verbs of quantization-aware training."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import keras

from tfcompress.compat.tfmot.original import scope_with_original
from tfcompress.compat.tfmot.quantization.keras.quantize_annotate import QuantizeAnnotate
from tfcompress.compat.tfmot.quantization.keras.quantize_config import DEFAULT, QuantizeConfig, config_for
from tfcompress.compat.tfmot.wrapping import around
from tfcompress.core.arguments import check_model, short
from tfcompress.graph import kernel_positions, rebuild
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.loading.keras2_packages import is_of_keras2, original_tfmot
from tfcompress.quantization.quantize import quantize

PREFIX = "quant_"


def quantize_model(to_quantize: Any, quantized_layer_name_prefix: str = PREFIX) -> Any:
    """Return a model that is trained as its int8 file will compute (`tfcompress.quantize` with "int8").

    Args:
        to_quantize: A built Keras 3 model of any kind, plain or pruned, which isn't changed. One of tf_keras goes to
            tfmot.
        quantized_layer_name_prefix: For a model of tf_keras; here layers keep their names.

    Raises:
        TypeError: If it is no model.
        ValueError: If it has nothing to quantize.
    """
    if is_of_keras2(to_quantize):
        return _original().quantize_model(to_quantize, quantized_layer_name_prefix)
    return quantize(to_quantize, DEFAULT)


def quantize_annotate_model(to_annotate: Any) -> Any:
    """Return a model whose layers are all marked to be quantized, for `quantize_apply`.

    Args:
        to_annotate: A built Keras 3 model, which isn't changed; layers that are marked keep their mark. One of tf_keras
            goes to tfmot.

    Raises:
        TypeError: If it is no model.
    """
    if is_of_keras2(to_annotate):
        return _original().quantize_annotate_model(to_annotate)
    check_model(to_annotate, "to_annotate")

    def mark(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer if isinstance(layer, QuantizeAnnotate) else QuantizeAnnotate(layer)

    return rebuild(to_annotate, mark)


def quantize_annotate_layer(to_annotate: Any, quantize_config: Any = None) -> Any:
    """Return a layer with a mark that it is to be quantized.

    Args:
        to_annotate: A layer of Keras 3, built (it is copied) or not. One of tf_keras goes to tfmot.
        quantize_config: A `QuantizeConfig`: how; `None`: as `quantize_model` does.

    Raises:
        TypeError: If it is no layer, or the configuration is something else.
    """
    if is_of_keras2(to_annotate):
        return _original().quantize_annotate_layer(to_annotate, quantize_config)
    if not isinstance(to_annotate, keras.layers.Layer) or isinstance(to_annotate, keras.Model):
        raise TypeError(
            f"Expected `to_annotate` to be a layer. Received: {short(to_annotate)}. For a whole model call "
            "quantize_annotate_model."
        )
    if quantize_config is not None and not hasattr(quantize_config, "get_weights_and_quantizers"):
        raise TypeError(
            f"Expected `quantize_config` to be a tfmot.quantization.keras.QuantizeConfig. Received: "
            f"{short(quantize_config)}. One of tfcompress goes to tfcompress.quantize(model, {{layer's name: config}})."
        )
    return around(to_annotate, QuantizeAnnotate, quantize_config)


def quantize_apply(model: Any, scheme: Any = None, quantized_layer_name_prefix: str = PREFIX) -> Any:
    """Return a model like `model` whose marked layers are trained as integers.

    Args:
        model: A built Keras 3 model with marked layers, which isn't changed. One of tf_keras goes to tfmot.
        scheme: Of `tfmot.experimental.combine`: what the model, stripped of masks and codebooks, keeps in training. For
            a model of tf_keras tfmot's own.
        quantized_layer_name_prefix: As in `quantize_model`.

    Raises:
        TypeError: If it is no model.
        ValueError: If no layer is marked, if a configuration says what isn't done here, or if a scheme is another one.
    """
    if is_of_keras2(model):
        given = {} if scheme is None else {"scheme": scheme}
        return _original().quantize_apply(model, **given, quantized_layer_name_prefix=quantized_layer_name_prefix)
    check_model(model)
    if scheme is not None and not hasattr(scheme, "kept"):
        raise ValueError(
            "Expected no `scheme` for a model of Keras 3, or one of tfmot.experimental.combine of this package. "
            f"Received: {type(scheme).__name__}. Leave it out: masks and codebooks are kept without one."
        )
    configs: dict[str, Any] = {}

    def unmark(layer: keras.layers.Layer) -> keras.layers.Layer:
        if not isinstance(layer, QuantizeAnnotate):
            return layer
        configs[layer.name] = config_for(layer.quantize_config, layer.layer), layer.quantize_config is None
        return layer.layer

    plain = rebuild(model, unmark)
    if not configs:
        raise ValueError(
            f"Expected a model with layers that are marked to be quantized. Received: {model.name!r} without. Call "
            "quantize_annotate_layer or quantize_annotate_model first; or quantize_model, for the whole model."
        )
    plain = plain if scheme is None else scheme.kept(plain)
    kernels = [layer.name for layer in plain.layers if kernel_positions(layer)]
    # What has no kernel goes along with what is before it, unless it was told how.
    meant = {name: config for name, (config, default) in configs.items() if name in kernels or not default}
    if set(kernels) <= set(meant) and len(set(meant.values())) == 1:
        (config,) = set(meant.values())
        if config is not None:
            return quantize(plain, config)
    return quantize(plain, LayerConfigs({f"{re.escape(name)}(/.*)?": config for name, config in meant.items()}))


def quantize_scope(*args: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
    """Return a scope in which Keras finds what quantized models are made of.

    Args:
        *args: {name: class or function} of one's own, beside it.
    """
    return scope_with_original("quantization", "quantize_scope", *args)


def _original() -> Any:
    """Return tfmot's functions; its configurations are those of this package, too."""
    original = original_tfmot().quantization.keras
    original.QuantizeConfig.register(QuantizeConfig)
    return original
