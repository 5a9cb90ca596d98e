"""In what numbers an exported file computes."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from tfcompress.core.names import listed
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.quantize_config import LEAST_BLOCK, MOST_BITS_IN_BLOCKS, WEIGHT_BITS, ActivationSpec
from tfcompress.quantization.weights.uniform import WeightQuantizer, weight_quantizers

LOWEST, HIGHEST = np.finfo(np.float32).min, np.finfo(np.float32).max
"""A maximum with the one, a minimum with the other change nothing: they stand before and behind what stays float."""


@dataclasses.dataclass(frozen=True)
class Scheme:
    """What the exporters need to know of a quantized model beside its graph.

    Attributes:
        activations: "static": ranges stand in the graph as fake-quantizers; "dynamic": found at run time from each
            input of a kernel; `None`: activations stay float.
        activation_bits: 8, or 16 where they are static; of layers with several, the most.
    """

    activations: str | None
    activation_bits: int = 8


def no_grid(what: str, name: str, inference_io: str) -> ValueError:
    """Return the error for an "input" or "output" that is to be integer and is computed in float."""
    return ValueError(
        f"Expected inference_io='float32': an {what} of the model is computed in float. Received: "
        f"inference_io={inference_io!r}, {what} {name!r}. Quantize that layer too (target='microcontroller' "
        "of tfcompress.quantize keeps none float for what its channels lose), or keep float32."
    )


def check_bits(model: keras.Model, kind: str) -> None:
    """Raise ValueError where no runtime has kernels of so many bits, or for such ranges; the message names the layer.

    Args:
        model: Quantized.
        kind: "tflite" or "onnx".
    """
    for quantizer in activation_quantizers(model):
        spec = quantizer.spec
        known = spec.kernel_bits
        if spec.bits not in known:
            where = " whose ranges are found at run time" if spec.dynamic else ""
            raise ValueError(
                f"Expected activations of {' or '.join(map(str, known))} bits{where}, which the runtimes have kernels "
                f"for. Received: {spec.bits} bits in {model.name!r}{_asked(model, spec)}. Quantize with bits=8, or "
                "strip the model."
            )
        if kind == "tflite" and spec.bits == 16 and not spec.symmetric:
            raise ValueError(
                "Expected symmetric ranges for activations of 16 bits: TFLite's kernels for them know no zero point. "
                f"Received: symmetric=False in {model.name!r}{_asked(model, spec)}. Quantize with "
                "ActivationSpec(bits=16, symmetric=True), or export to .onnx."
            )
    if kind == "tflite":
        _check_blocks(model)
    for layer in wrapped_layers(model):
        bits = max((t.spec.bits for _, t in layer.transforms if isinstance(t, WeightQuantizer)), default=0)
        if bits > WEIGHT_BITS:
            raise ValueError(
                f"Expected weights of at most {WEIGHT_BITS} bits, which the runtimes have kernels for. Received: "
                f"{bits} bits in {model.name!r}, at layer {layer.name!r}. Quantize with bits=8, or strip the model."
            )


def _check_blocks(model: keras.Model) -> None:
    """Raise ValueError where weights are in blocks that LiteRT has no kernel for."""
    for layer in wrapped_layers(model):
        for _, transform in layer.transforms:
            if not isinstance(transform, WeightQuantizer) or not transform.blocks:
                continue
            spec = transform.spec
            if not spec.blocks_in_tflite:
                raise ValueError(
                    f"Expected weights in blocks to have at most {MOST_BITS_IN_BLOCKS} bits, and blocks of "
                    f"{LEAST_BLOCK} inputs or a multiple of that: LiteRT has no other kernel for them. Received: "
                    f"{spec.bits} bits in blocks of {spec.block} in {model.name!r}, at layer {layer.name!r}. Quantize "
                    "so, or with granularity='per_channel', or export to .onnx."
                )


def _asked(model: keras.Model, spec: ActivationSpec) -> str:
    """Return for which layers a specification was given, in words."""
    names = [
        repr(layer.name)
        for layer in wrapped_layers(model)
        if any(isinstance(t, WeightQuantizer) and t.activations == spec for _, t in layer.transforms)
    ]
    return f", for {listed(names, 3)}" if names else ""


def scheme_of(model: keras.Model) -> Scheme | None:
    """Return in what a model computes; `None` for one that isn't quantized (to integers)."""
    activations = [quantizer.spec for quantizer in activation_quantizers(model)]
    if not activations and not weight_quantizers(model):
        return None
    kind = None if not activations else "dynamic" if activations[0].dynamic else "static"
    return Scheme(kind, max((spec.bits for spec in activations), default=8))
