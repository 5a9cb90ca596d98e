"""From a scheme to the passes over an ONNX model."""

from __future__ import annotations

from typing import Any

from tfcompress.export.onnx.detached_constants import fill
from tfcompress.export.onnx.dynamic_range import dynamic
from tfcompress.export.onnx.packed_products import pack_products
from tfcompress.export.onnx.static_range import static
from tfcompress.export.onnx.stored_weights import store_in_int8
from tfcompress.export.plan.planned_weights import PlannedWeights
from tfcompress.export.plan.scheme import Scheme


def apply(
    proto: Any,
    scheme: Scheme,
    weights: PlannedWeights,
    inference_io: str,
    detached: dict[str, bytes] | None = None,
    *,
    packed: bool = False,
) -> None:
    """Store and compute in integers what the scheme says, in place.

    Args:
        proto: An `onnx.ModelProto`.
        scheme: What is to be in integers.
        weights: Those that are integers.
        inference_io: "float32", or "int8" or "uint8": the dtype of inputs and outputs that are quantized.
        detached: The values of its constants that it lacks (see `detached_constants.detach`); it gets them, as they are
            stored then.
        packed: Whether ONNX Runtime's own operator may multiply by weights of 4 bits.
    """
    detached = {} if detached is None else detached
    others: dict[str, str] | None = None
    if scheme.activations == "static":
        static(proto, weights, inference_io, detached)
    elif scheme.activations == "dynamic":
        dynamic(proto, weights, detached)
    elif packed:
        others = pack_products(proto, weights, detached)
    else:
        fill(proto, detached)
    store_in_int8(proto.graph, weights, others)
