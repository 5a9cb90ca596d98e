"""What is looked at before a model is quantized."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from tfcompress.core.error_messages import user_level
from tfcompress.core.transform import read
from tfcompress.core.wrappers import inner_weights
from tfcompress.graph import kernel_positions
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers, wanted_activations
from tfcompress.quantization.graph.layer_precisions import LayerPrecisions
from tfcompress.quantization.quantize_config import WEIGHT_BITS


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


def warn_without_kernels(precisions: LayerPrecisions) -> None:
    """Warn of bits that no exported file can compute with, at once and not when a file is wanted."""
    found: dict[str, str] = {}
    for config in precisions.all:
        spec = config.activations
        if config.float16:
            continue
        if spec is not None and spec.bits not in spec.kernel_bits:
            where = " whose ranges are found at run time" if spec.dynamic else ""
            known = " and ".join(map(str, spec.kernel_bits))
            found.setdefault(f"activations of {spec.bits} bits{where}", f"activations of {known}")
        if config.weights.bits > WEIGHT_BITS:
            found.setdefault(f"weights of {config.weights.bits} bits", f"weights of at most {WEIGHT_BITS}")
    if found:
        warnings.warn(
            f"No runtime has kernels for {' and for '.join(found)}: the model can be trained and evaluated so, and not "
            f"exported. For files take {', '.join(dict.fromkeys(found.values()))}.",
            stacklevel=user_level(),
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
