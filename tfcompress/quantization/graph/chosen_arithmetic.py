"""Whose rounding a quantized model simulates: said in the specification of each of its quantizers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

from tfcompress.core.arguments import check_choice
from tfcompress.quantization.arithmetic.choice import ARITHMETICS
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.weights.uniform import weight_quantizers


def check_arithmetic(name: Any) -> None:
    """Raise ValueError unless a name is that of an arithmetic; the message has the nearest."""
    check_choice("arithmetic", name, tuple(ARITHMETICS))


def set_arithmetic(model: keras.Model, name: str) -> None:
    """Let a quantized model simulate a runtime in inference, in place.

    Args:
        model: Quantized; what was traced of it before goes on as it was.
        name: "xnnpack", "reference" or "onnxruntime".
    """
    check_arithmetic(name)
    for quantizer in activation_quantizers(model):
        quantizer.spec = dataclasses.replace(quantizer.spec, arithmetic=name)
    for transform in weight_quantizers(model):
        if transform.activations is not None:
            transform.activations = dataclasses.replace(transform.activations, arithmetic=name)


def arithmetic_of(model: keras.Model) -> str | None:
    """Return whose rounding a model simulates; `None` if none of its activations has a range."""
    specs = (quantizer.spec for quantizer in activation_quantizers(model))
    return next((spec.arithmetic for spec in specs if not spec.dynamic), None)


@contextlib.contextmanager
def simulated(model: keras.Model, name: str | None) -> Iterator[None]:
    """Let a model simulate another runtime for the time of the block; `None`: the one that it does.

    What is called in the block is called without a trace from before.
    """
    quantizers, transforms = activation_quantizers(model), weight_quantizers(model)
    names = {quantizer.spec.arithmetic for quantizer in quantizers if not quantizer.spec.dynamic}
    if name is None or not names or names == {name}:
        yield
        return
    before = [quantizer.spec for quantizer in quantizers], [transform.activations for transform in transforms]
    set_arithmetic(model, name)
    try:
        yield
    finally:
        for quantizer, spec in zip(quantizers, before[0], strict=True):
            quantizer.spec = spec
        for transform, activations in zip(transforms, before[1], strict=True):
            transform.activations = activations
