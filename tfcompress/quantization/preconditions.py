"""What is looked at before a model is quantized."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from tfcompress.core.transform import read
from tfcompress.core.wrappers import inner_weights
from tfcompress.graph import kernel_positions
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers, wanted_activations


def check_data(data: Any, **switches: bool) -> None:
    """Raise ValueError where what is asked for needs data, and there is none."""
    for name, on in switches.items():
        if on and data is None:
            raise ValueError(f"Expected data with {name}=True. Received: None.")


def check_finite(layers: Iterable[keras.layers.Layer]) -> None:
    """Raise ValueError if a kernel holds a number that isn't finite."""
    for layer in layers:
        weights = inner_weights(layer)
        for position in kernel_positions(layer):
            if not bool(np.all(np.isfinite(read(weights[position])))):
                raise ValueError(
                    f"Expected finite weights. Received: {weights[position].path!r} of layer {layer.name!r}, which "
                    "holds NaN or infinite values. Train or load the model anew."
                )


def warn_without_integers(model: keras.Model) -> None:
    """Warn of a model that computes in float though its activations were to be quantized."""
    wanted = wanted_activations(model)
    if wanted is not None and not wanted.dynamic and not activation_quantizers(model):
        warnings.warn(
            f"No activation of {model.name!r} is quantized, since no layer that is meant has an integer kernel: its "
            "weights alone are, and its files compute in float. tfcompress.summary says why, layer by layer.",
            stacklevel=3,
        )
