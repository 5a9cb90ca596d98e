"""ONNX models without the functions in them, as ONNX Runtime sees them once it has loaded them."""

from __future__ import annotations

from typing import Any


def inlined(proto: Any) -> Any:
    """Return a model with the operators of its functions in the place of each call; values aren't copied twice.

    Args:
        proto: An `onnx.ModelProto`; it isn't changed.
    """
    import onnx.inliner

    if not proto.functions:
        return proto
    bare = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    bare.graph.name = proto.graph.name
    for field in ("node", "input", "output"):
        getattr(bare.graph, field).extend(getattr(proto.graph, field))
    made = onnx.inliner.inline_local_functions(bare)
    made.metadata_props.extend(proto.metadata_props)
    made.graph.initializer.extend(proto.graph.initializer)
    made.graph.sparse_initializer.extend(proto.graph.sparse_initializer)
    return made
