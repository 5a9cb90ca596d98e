"""From a scheme to the passes over an ONNX model."""

from __future__ import annotations

from typing import Any

from tfcompress.export.qdq.dynamic import dynamic
from tfcompress.export.qdq.static import static
from tfcompress.export.qdq.store import store_in_int8
from tfcompress.export.scheme import Scheme


def apply(proto: Any, scheme: Scheme, inference_io: str = "float32") -> None:
    """Store and compute in integers what the scheme says, in place."""
    if scheme.activations == "static":
        static(proto, scheme, inference_io)
    elif scheme.activations == "dynamic":
        dynamic(proto, scheme.weight_bits, scheme.per_channel)
    store_in_int8(proto.graph, scheme.weight_bits)
