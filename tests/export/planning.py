"""The integers of kernels that lie on a grid, as quantized models plan them."""

import numpy as np
from keras import layers

from tfcompress.export.onnx.to_onnx import to_onnx
from tfcompress.export.plan.planned_weights import PlannedWeight, PlannedWeights
from tfcompress.export.plan.scheme import Scheme
from tfcompress.quantization.encoding import Affine
from tfcompress.tracing.trace import trace


def axes_of(layer, rank, per_channel=True):
    """Return the axes of a kernel whose places have scales."""
    if not per_channel:
        return ()
    if isinstance(layer, layers.DepthwiseConv2D | layers.DepthwiseConv1D):
        return (rank - 2, rank - 1)
    return (rank - 2,) if isinstance(layer, layers.Conv2DTranspose) else (rank - 1,)


def planned(model, per_channel=True):
    """Return the kernels and tables of a model that lie on grids; they get the values of their integers bit by bit."""
    found = {}
    for layer in model._flatten_layers():
        for weight in layer._trainable_variables:
            if "kernel" not in weight.path and "embeddings" not in weight.path:
                continue
            values = np.asarray(weight.value)
            for wanted in (per_channel, False):
                axes = axes_of(layer, values.ndim, wanted)
                others = tuple(axis for axis in range(values.ndim) if axis not in axes)
                made = Affine.symmetric(values, np.abs(values).max(axis=others), 8, axes)
                if np.allclose(made.decode(), values, rtol=1e-5, atol=1e-9 if values.any() else 1):
                    weight.assign(made.decode())
                    found.setdefault(id(weight), PlannedWeight(layer.name, weight.name, made))
                    break
    return PlannedWeights(found.values())


def onnx_of(model, batch=None, scheme=Scheme("static"), per_channel=True, **how):  # noqa: B008 (frozen)
    """Return a model, and the plan for its kernels, as ONNX."""
    weights = planned(model, per_channel)
    return to_onnx(trace(model, batch), scheme=scheme, weights=weights, **how)
