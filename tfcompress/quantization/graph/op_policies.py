"""How integer runtimes see each call of a graph: what the catalogue says of its layer or operation, and when not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from tfcompress.core.keras_private import build_shapes, kept_axes
from tfcompress.core.passthrough import innermost
from tfcompress.graph.affine_forms import constant_map
from tfcompress.graph.clone import has_mask
from tfcompress.graph.rewrite import Call
from tfcompress.graph.time_distributed import STEPPING, why_not_together
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.einsum_equations import matrix_form
from tfcompress.layers.fused_lstm import why_not_fused
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.average_windows import has_one_grid
from tfcompress.quantization.graph.float_layers import kept_reason
from tfcompress.quantization.weights.gates import has_other_scales

KERNEL, AFFINE, RELU, INTEGER, CONCATENATE = "kernel", "affine", "relu", "integer", "concatenate"
TRANSPARENT, TABLE, FLOAT = "transparent", "table", "float"


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a call is to an integer runtime.

    Attributes:
        kind: "kernel": weights and inputs are quantized, and the output behind what is fused. "affine": a scale and
            an offset for each channel: folded into the kernel before it, else a depthwise convolution. "relu": part
            of what is before it. "integer": quantized before and behind. "concatenate": likewise, but inputs
            that nothing else reads have the range of the output. "transparent": moves values, which stay on their
            grid. "table": an embedding, whose rows lie on a grid. "float": no integer kernel, a float fallback.
        output: The range that the runtimes fix for the output, as a part of [-1, 1]: (0, 1) or (-1, 1); `None`: a
            calibrated one.
        note: What a reader of the summary should know.
        same: Whether the output lies on the input's grid: TFLite's kernel has one for both.
    """

    kind: str
    output: tuple[int, int] | None = None
    note: str = ""
    same: bool = False


RESIZING = ("upsampling2d", "resizing")
POOLING = ("maxpooling", "globalmaxpooling")


def computes(operation: Any, rule: Rule) -> bool:
    """Return whether there is something that an operation computes in integers or in float: all but moving values."""
    return rule.kind != TRANSPARENT or name_of(operation).startswith(POOLING)


NO_INTEGER_KERNEL = Rule(FLOAT, note="float fallback: no integer kernel")


def policy_of(operation: Any) -> Rule:
    """Return the rule for a layer or operation, whatever it is called with."""
    traits = traits_of(operation)
    if traits.quantization == FLOAT:
        return NO_INTEGER_KERNEL
    return Rule(traits.quantization, traits.output_range, "" if traits.integer_in_onnx else "float in ONNX")


def rule_of(call: Call, bits: int = 8) -> Rule:
    """Return the rule for a call.

    Args:
        call: Of a graph that has been lowered (see `decompose`).
        bits: Of the activations.
    """
    inner = innermost(call.operation)
    name = name_of(call.operation)
    floats = [x for x in (*call.inputs, *call.outputs) if keras.backend.is_float_dtype(x.dtype)]
    if not floats or isinstance(inner, STEPPING):
        return Rule(TRANSPARENT)
    if isinstance(inner, keras.layers.TimeDistributed):
        return Rule(FLOAT, note=f"float fallback: {why_not_together(inner, call.inputs) or 'it is one layer'}")
    kept = kept_reason(call.operation)
    if kept is not None:
        return Rule(FLOAT, note=f"float: {kept}")
    rule = policy_of(inner) if constant_map(call) is None else Rule(AFFINE)
    if name in RESIZING and inner.interpolation == "bilinear":
        rule = Rule(INTEGER, note="float in ONNX", same=True)
    if rule.kind == INTEGER and has_one_grid(inner, call.inputs[0].shape):
        rule = Rule(INTEGER, same=True)  # other average poolings are depthwise convolutions there
    refused = _why_float(inner, name, call, rule, bits)
    return Rule(FLOAT, note=f"float fallback: {refused}") if refused else rule


def _why_float(inner: Any, name: str, call: Call, rule: Rule, bits: int) -> str:
    """Return why a call of a known kind has no integer kernel after all; empty if it has."""
    tensors = (*call.inputs, *call.outputs)
    whole = not all(keras.backend.is_float_dtype(x.dtype) for x in tensors)
    reasons = {
        "channels first": getattr(inner, "data_format", None) == "channels_first",
        f"{len(call.inputs[0].shape)} dimensions": rule.kind == AFFINE and not _has_channels(call),
        "not along the last axis": rule.kind == AFFINE and not _along_last_axis(inner, name),
        "a slope or threshold": name == "relu"
        and bool(getattr(inner, "negative_slope", 0.0) or getattr(inner, "threshold", 0.0)),
        f"{getattr(inner, 'interpolation', '')} interpolation": name in RESIZING
        and inner.interpolation not in ("nearest", "bilinear"),
        "antialiased": getattr(inner, "antialias", False),
        "padded with another value than 0": getattr(inner, "pad_to_aspect_ratio", False) and bool(inner.fill_value),
        "called with training=True": rule.kind in (TRANSPARENT, AFFINE)
        and bool(getattr(call.operation, "pinned", None)),
        "an image smaller than the crop": name == "centercrop" and _is_smaller(call.inputs[0].shape, inner),
        "from an embedding back to words": name == "reversibleembedding" and bool(call.keywords.get("reverse")),
        "whole numbers": rule.kind in (AFFINE, INTEGER, CONCATENATE, KERNEL) and whole,
        "a constant operand": rule.kind == INTEGER
        and traits_of(inner).channels in ("nary", "matmul")
        and len(call.inputs) < 2,
        f"equation {getattr(inner, 'equation', '')}": name == "einsumdense" and matrix_form(inner) is None,
        f"no kernel of {bits} bits": bits > 8 and name in ("gelu", "hardsigmoid", "elu", "lstm"),
    }
    refused = _why_no_lstm(inner, call) if name == "lstm" else ""
    return refused or next((reason for reason, holds in reasons.items() if holds), "")


def _why_no_lstm(layer: Any, call: Call) -> str:
    """Return why an LSTM has no integer kernel; empty if it has."""
    reasons = {
        "it gets a Keras mask; leave mask_zero and Masking out in front of it": has_mask(call.inputs)
        or call.keywords.get("mask") is not None,
        "its state goes in or out": len(call.inputs) > 1 or len(call.outputs) > 1 or bool(layer.stateful),
        "a free number of steps": call.inputs[0].shape[1] is None,
        "its weights are quantized without one scale for each gate": has_other_scales(call.operation),
    }
    other = why_not_fused(layer)
    return other or next((reason for reason, holds in reasons.items() if holds), "")


def _has_channels(call: Call) -> bool:
    return 2 <= len(call.inputs[0].shape) <= 4 and call.inputs[0].shape[-1] is not None


def _is_smaller(image: Sequence[int | None], crop: Any) -> bool:
    """Return whether an image is known to be smaller than a crop of it, for which it is enlarged."""
    height, width = image[-3:-1]
    return (height or crop.height) < crop.height or (width or crop.width) < crop.width


def _along_last_axis(layer: Any, name: str) -> bool:
    if name not in ("normalization", "batchnormalization"):
        return True
    rank = len(build_shapes(layer).get("input_shape", ()))
    if name == "normalization":
        return not layer.invert and all(a in (-1, rank - 1) for a in kept_axes(layer))
    axes = (layer.axis,) if isinstance(layer.axis, int) else tuple(layer.axis)
    return axes in ((-1,), (rank - 1,))
