"""TODO."""

from __future__ import annotations

from typing import Any

RULES: dict[str, dict[str, tuple[Any, ...]]] = {"tflite": {}, "onnx": {}}
