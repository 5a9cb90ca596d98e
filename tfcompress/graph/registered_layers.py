"""Whether a layer that was registered like one of Keras' computes what that computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.layers import Layer

from tfcompress.core.out_of_memory import pass_on_full
from tfcompress.core.passthrough import innermost
from tfcompress.core.sharding import gathered, spans_processes
from tfcompress.graph.equivalence import close
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.rewrite import calls
from tfcompress.graph.sample_inputs.sample_values import sample_values
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.names import is_registered, name_of
from tfcompress.layers.register import kernels_of


def check_registered(graph: FlatGraph) -> None:
    """Raise ValueError if a layer that was registered like a Dense, say, computes something else in inference.

    Looked at are layers with kernels whose products Keras has as operations, on one random sample.

    Args:
        graph: Any.
    """
    layers = {call: innermost(call.operation) for call in calls(graph) if len(call.inputs) == len(call.arguments) == 1}
    known = {call: layer for call, layer in layers.items() if _is_known(layer)}
    if not known or any(spans_processes(variable) for layer in graph.layers for variable in layer.variables):
        return
    try:
        values = sample_values(graph.model())
    except Exception as error:  # it can't run on such data, and says so when it is to
        pass_on_full(error)
        return
    for call, layer in known.items():
        x = values[id(call.inputs[0])]
        with keras.StatelessScope():
            wanted, got = (gathered(ops.cast(y, "float32")) for y in (_expected(layer, x), layer(x)))
        if not close([wanted], [got]):
            alike = wanted.shape == got.shape
            what = f"off by {np.abs(wanted - got).max():.3g}" if alike else f"of shape {got.shape}, not {wanted.shape}"
            raise ValueError(
                f"Expected layer {layer.name!r} of class {type(layer).__name__} to compute in inference what it is "
                f"registered as, {name_of(layer)!r}: the product with its kernel, its bias and its activation. "
                f"Received: outputs {what}. Let its attributes say what it does, or register it with "
                "traits=tfcompress.LayerTraits(...) in place of like=."
            )


def _is_known(layer: Any) -> bool:
    if not isinstance(layer, Layer) or not is_registered(layer) or traits_of(layer).channels not in _PRODUCTS:
        return False
    plain = getattr(layer, "padding", None) != "causal" and getattr(layer, "data_format", None) != "channels_first"
    return plain and layer.compute_dtype == "float32"


def _expected(layer: Any, x: Any) -> Any:
    """Return what a layer is to compute."""
    kernels_of(layer)  # which checks its attributes
    y = _PRODUCTS[traits_of(layer).channels](layer, ops.cast(x, "float32"))
    y = y if layer.bias is None else y + ops.convert_to_tensor(layer.bias)
    return y if layer.activation is None else layer.activation(y)


def _window(layer: Any) -> dict[str, Any]:
    names = ("strides", "padding", "data_format", "dilation_rate")
    return {name: getattr(layer, name) for name in names}


_PRODUCTS: dict[str, Callable[[Any, Any], Any]] = {
    "dense": lambda layer, x: ops.matmul(x, layer.kernel),
    "einsum_dense": lambda layer, x: ops.einsum(layer.equation, x, layer.kernel),
    "convolution": lambda layer, x: ops.conv(x, layer.kernel, **_window(layer)),
    "depthwise": lambda layer, x: ops.depthwise_conv(x, layer.kernel, **_window(layer)),
    "separable": lambda layer, x: ops.separable_conv(
        x, layer.depthwise_kernel, layer.pointwise_kernel, **_window(layer)
    ),
}
