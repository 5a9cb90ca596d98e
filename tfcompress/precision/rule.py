"""The rule of what stays float32, in tables and by the place in the graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import tree
from keras.layers import Layer

from tfcompress.export.half import LARGEST
from tfcompress.passthrough import Inserted, PassThrough
from tfcompress.precision.policies import HALVES
from tfcompress.quantization.names import plain_name
from tfcompress.surgery import LayerChoice
from tfcompress.surgery.choosing import Layers
from tfcompress.surgery.walking import Call

SOFTMAX = "a softmax, or another exponential, needs float32's range"
NORM = "Keras computes its norm in the layer's own precision"
RAW = "sees raw data, of whatever range"
MASK = "compares data to make a mask"
LOSS = "adds a loss of its outputs"
CODE = "holds code that may need float32"
OUTPUT = "makes an output of the model"
CONSTANT = "holds a constant beyond 65504"
NEEDS_RANGE = "exponentials, powers and sums need float32's range"
ASKED = "keep_float32 names it"
FAKE_QUANT = "fake-quant"

_LAYERS = {
    "Softmax": SOFTMAX,
    "Attention": SOFTMAX,
    "AdditiveAttention": SOFTMAX,
    "UnitNormalization": NORM,
    "SpectralNormalization": NORM,
    "Masking": MASK,
    "ActivityRegularization": LOSS,
    "Lambda": CODE,
    "TFSMLayer": CODE,
    "JaxLayer": CODE,
    "FlaxLayer": CODE,
    "TorchModuleWrapper": CODE,
}
"""Layers of Keras, and classes derived from them."""

_ATTENTION = (L.MultiHeadAttention, L.GroupQueryAttention)

_ACTIVATIONS = ("softmax", "logsoftmax", "sparsemax", "exponential", "squareplus")

_EXPONENTIALS = ("softmax", "logsoftmax", "logsumexp", "sparsemax", "softplus", "squareplus", "sinh", "cosh")
_POWERS = (
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "power",
    "square",
    "rsqrt",
    "reciprocal",
)
_SUMS = ("sum", "prod", "cumsum", "cumprod", "nansum", "nanprod", "var", "std", "nanvar", "nanstd", "moments", "norm")
_INVERSES = ("normalize", "tan", "arccos", "arcsin", "erfinv")
_SOLVERS = ("cholesky", "choleskyinverse", "det", "eig", "eigh", "inv", "lufactor", "lstsq", "qr", "solve", "svd")
_SIGNALS = (
    "fft",
    "fft2",
    "ifft2",
    "rfft",
    "irfft",
    "stft",
    "istft",
    "histogram",
    "quantile",
    "median",
    "solvetriangular",
)
_LOSSES = ("ctcloss", "ctcdecode", "psnr", "binarycrossentropy", "categoricalcrossentropy")

_OPERATIONS = frozenset(
    (*_EXPONENTIALS, *_POWERS, *_SUMS, *_INVERSES, *_SOLVERS, *_SIGNALS, *_LOSSES, "sparsecategoricalcrossentropy")
)
"""By the names of Keras' operations: what autocast of PyTorch and TensorFlow computes in float32, and what
has no kernel for 16 bits."""


def innermost(operation: Any) -> Any:
    """Return a layer without wrappers of this package; an operation as it is."""
    return operation.innermost if isinstance(operation, PassThrough) else operation


def is_cast(operation: Any) -> bool:
    """Return whether an operation of a graph is Keras' cast."""
    return type(operation).__name__ == "Cast" and type(operation).__module__.startswith("keras.")


def has_policy(operation: Any) -> bool:
    """Return whether a layer computes in floats whose precision is to be chosen: not in integers or float64."""
    return isinstance(operation, Layer) and operation.compute_dtype in ("float32", *HALVES)


def named(keep_float32: Layers) -> LayerChoice:
    """Return what `keep_float32` names; `None` names nothing."""
    return LayerChoice([] if keep_float32 is None else keep_float32, "keep_float32")


def reasons(graph: Sequence[Call], outputs: Sequence[Any], choice: LayerChoice, policy: str) -> dict[int, str]:
    """Return why layers and operations stay float32, by id; those that the policy is for aren't in it.

    Args:
        graph: The calls of a flat graph.
        outputs: Its symbolic outputs.
        choice: What was asked to stay float32; may be of nothing.
        policy: "mixed_float16" or "mixed_bfloat16".
    """
    ends = set(_ends(graph, outputs))
    found: dict[int, str] = {}
    for call in graph:
        operation = call.operation
        if isinstance(operation, Inserted):
            found[id(operation)] = FAKE_QUANT
            continue
        why = _why_asked(operation, choice)
        if isinstance(operation, Layer):
            why = why or (_why_layer(operation) if has_policy(innermost(operation)) else "")
        else:
            why = why or _why_operation(call, policy)
        why = why or (OUTPUT if id(operation) in ends else "")
        if why:
            found.setdefault(id(operation), why)
    return found


def _ends(graph: Sequence[Call], outputs: Sequence[Any]) -> Iterator[int]:
    """Yield the ids of what makes outputs: the last layer with weights, or where tensors meet, and what follows."""
    producer = {id(x): call for call in graph for x in call.outputs}
    for x in outputs:
        call = producer.get(id(x))
        while call is not None:
            yield id(call.operation)
            weights = [] if isinstance(call.operation, Inserted) else getattr(call.operation, "weights", [])
            call = producer.get(id(call.inputs[0])) if len(call.inputs) == 1 and not weights else None


def _why_asked(operation: Any, choice: LayerChoice) -> str:
    if not isinstance(operation, Layer):
        return ASKED if choice.function is None and choice.includes(operation) else ""
    inner = innermost(operation)
    # Of all, so that the choice knows every name.
    asked = [choice.includes(operation), *(choice.includes(part) for part in inner._flatten_layers(include_self=False))]
    return ASKED if any(asked) else ""


def _why_layer(layer: Layer) -> str:
    """Return why a layer stays float32 as a whole: for itself, or for a layer inside of it."""
    inner = innermost(layer)
    why = _why_part(inner)
    if isinstance(inner, _ATTENTION):
        # Without dropout Keras takes its fused attention, whose softmax is in float32.
        return why or (SOFTMAX if getattr(inner, "_dropout", getattr(inner, "dropout", 0.0)) else "")
    return why or next((why for part in inner._layers if (why := _why_layer(part))), "")


def _why_part(layer: Any) -> str:
    known = next((_LAYERS[cls.__name__] for cls in type(layer).__mro__ if _is_listed(cls)), "")
    if known:
        return known
    if ".layers.preprocessing." in next(c.__module__ for c in type(layer).__mro__ if c.__module__.startswith("keras.")):
        return RAW
    if isinstance(layer, L.Dot) and layer.normalize:
        return NORM
    if layer.activity_regularizer is not None:
        return LOSS
    used = (getattr(layer, name, None) for name in ("activation", "recurrent_activation"))
    return SOFTMAX if any(f is not None and plain_name(f) in _ACTIVATIONS for f in used) else ""


def _is_listed(cls: type) -> bool:
    # Each backend has a base of all layers, and that of JAX is called JaxLayer too.
    of_keras = cls.__module__.startswith("keras.") and ".backend." not in cls.__module__
    return of_keras and cls.__name__ in _LAYERS


def _why_operation(call: Call, policy: str) -> str:
    if plain_name(type(call.operation)) in _OPERATIONS:
        return NEEDS_RANGE
    if policy == "mixed_float16":
        given = [x for x in tree.flatten((call.arguments, call.keywords)) if not keras.utils.is_keras_tensor(x)]
        kept = [x for x in vars(call.operation).values() if isinstance(x, float | np.floating)]
        if any(_is_large(x) for x in (*given, *kept)):
            return CONSTANT
    return ""


def _is_large(x: Any) -> bool:
    if isinstance(x, bool | str) or x is None:
        return False
    try:
        values = np.asarray(x if isinstance(x, int | float) else keras.ops.convert_to_numpy(x))
        finite = values[np.isfinite(values)]
        return bool(np.abs(finite).max(initial=0.0) > LARGEST)
    except (TypeError, ValueError):
        return False
