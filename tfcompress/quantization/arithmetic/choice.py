"""The arithmetics by their names."""

from __future__ import annotations

from tfcompress.quantization.arithmetic.base import Arithmetic
from tfcompress.quantization.arithmetic.onnx_runtime import OnnxRuntime
from tfcompress.quantization.arithmetic.reference import Reference
from tfcompress.quantization.arithmetic.xnnpack import XnnPack

XNNPACK = XnnPack.name
"""What is simulated where nothing else is asked for: LiteRT runs it by default."""

ARITHMETICS: dict[str, Arithmetic] = {made.name: made for made in (XnnPack(), Reference(), OnnxRuntime())}
"""By the name that an `ActivationSpec` has."""

OF_RUNTIME = {"litert": "xnnpack", "tflm": "reference", "onnxruntime": "onnxruntime"}
"""By the name under which a runtime runs files."""
