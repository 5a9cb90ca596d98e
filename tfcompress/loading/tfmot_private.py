"""The private names of tf_keras and of tensorflow_model_optimization: the only module that has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def layer_before(layer: Any) -> Any:
    """Return the layer of tf_keras whose output another is given.

    Instead: look for `layer.input` among the outputs of the model's layers.
    """
    return layer.input._keras_history.layer


def quantized_weights(layer: Any) -> Sequence[tuple[Any, Any, Any]]:
    """Return the weights that a `QuantizeWrapper` fake-quantizes, each with its quantizer and that one's variables.

    They aren't among the weights of the layer.
    Instead: ask `layer.quantize_config.get_weights_and_quantizers(layer.layer)`.
    """
    return tuple(getattr(layer, "_weight_vars", ()))
