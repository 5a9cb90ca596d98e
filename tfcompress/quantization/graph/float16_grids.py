"""Grids of quantization that 16-bit floats can't hold."""

from __future__ import annotations

import warnings

import keras

from tfcompress.core.wrapper import wrapped_layers
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.weights.uniform import WeightQuantizer

SIGNIFICAND = {"float16": 11, "bfloat16": 8}
"""Bits of the significand, the leading one included: grids of as many bits keep their values apart."""


def warn_of_lost_grids(model: keras.Model) -> None:
    """Warn if a quantized layer computes in 16-bit floats that are coarser than its grid."""
    found = []
    for layer in wrapped_layers(model):
        held = SIGNIFICAND.get(layer.innermost.compute_dtype)
        bits = max((t.spec.bits for _, t in layer.transforms if isinstance(t, WeightQuantizer)), default=0)
        if held is not None and bits > held:
            found.append((bits, layer.name, layer.innermost.compute_dtype))
    for quantizer in activation_quantizers(model):
        dtype = keras.backend.standardize_dtype(quantizer.output.dtype)
        if quantizer.spec.bits > SIGNIFICAND.get(dtype, quantizer.spec.bits):
            found.append((quantizer.spec.bits, quantizer.source or quantizer.name, dtype))
    if found:
        bits, name, dtype = max(found)
        warnings.warn(
            f"{len(found)} grids of up to {bits} bits lie behind layers in {dtype}, whose numbers have "
            f"{SIGNIFICAND[dtype]} significant bits, such as that of {name!r}: training rounds to these, not to the "
            "grid. Quantize the float32 model (tfcompress.full_precision), or take a recipe of 8 bits.",
            stacklevel=3,
        )
