"""tfmot's names for quantizing models of Keras."""

from tfcompress.compat.tfmot.other_names import refuse_in
from tfcompress.compat.tfmot.quantization.keras import quantizers
from tfcompress.compat.tfmot.quantization.keras.quantize import (
    quantize_annotate_layer,
    quantize_annotate_model,
    quantize_apply,
    quantize_model,
    quantize_scope,
)
from tfcompress.compat.tfmot.quantization.keras.quantize_config import QuantizeConfig

__all__ = [
    "QuantizeConfig",
    "quantize_annotate_layer",
    "quantize_annotate_model",
    "quantize_apply",
    "quantize_model",
    "quantize_scope",
    "quantizers",
]

__getattr__ = refuse_in(__name__, __all__)
