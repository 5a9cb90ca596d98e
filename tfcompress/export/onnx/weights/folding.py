"""What a coded file decodes to: the constants that ONNX Runtime has once it has loaded it, computed by itself."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from typing import Any

from tfcompress.core.quiet_output import quiet
from tfcompress.export.onnx.detached_constants import without_large_constants
from tfcompress.export.onnx.node_index import captures, inner_graphs
from tfcompress.runtime.onnx_functions import inlined

UNPACKING = ("Cast", "DequantizeLinear", "Identity", "Mul", "Reshape", "Transpose")
"""What reads a constant, changes no integer of it, and may stand in a file that isn't coded."""


def folded(proto: Any, path: pathlib.Path) -> Any:
    """Return a model in which weights, biases and scales that are computed of constants alone are constants.

    That are integers of 8 and 32 bits, and what a DequantizeLinear takes for its scale.

    Args:
        proto: An `onnx.ModelProto`, as read from `path` without what it has in other files; it isn't changed.
        path: Of the file.
    """
    import onnx

    proto = inlined(proto)
    computed = computed_of_constants(proto.graph)
    if not _decode(computed):
        return proto
    inferred = onnx.shape_inference.infer_shapes(without_large_constants(proto)).graph
    scales = {node.input[1] for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    whole = {
        value.name: value
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type in (onnx.TensorProto.INT8, onnx.TensorProto.INT32) or value.name in scales
    }
    made = {name for node in computed for name in node.output if name in whole}
    inside = {id(node) for node in computed if made.issuperset(node.output)}
    others = [node for node in proto.graph.node if id(node) not in inside]
    read = {name for node in others for name in (*node.input, *captures(node))} | {x.name for x in proto.graph.output}
    wanted = [whole[name] for name in made if name in read]
    if not wanted:
        return proto
    values = run_constants(proto, computed, [value.name for value in wanted], path)
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    replaced = {value.name for value in wanted}
    kept = [node for node in result.graph.node if not replaced.issuperset(node.output)]
    needed = needed_for(kept, [value.name for value in result.graph.output])
    del result.graph.node[:]
    result.graph.node.extend(needed)
    names = {name for node in needed for name in (*node.input, *captures(node))}
    constants = [tensor for tensor in result.graph.initializer if tensor.name in names]
    del result.graph.initializer[:]
    result.graph.initializer.extend(constants)
    result.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    return result


def computed_of_constants(graph: Any, around: Iterable[str] = ()) -> list[Any]:
    """Return the nodes that depend on constants alone.

    Args:
        graph: An `onnx.GraphProto`.
        around: The names of constants outside of it, which it may read.
    """
    known = {*around, *(tensor.name for tensor in graph.initializer)} - {value.name for value in graph.input}
    found = []
    for node in graph.node:
        if not any(inner_graphs(node)) and known.issuperset(filter(None, node.input)):
            known.update(node.output)
            found.append(node)
    return found


def is_coded(proto: Any) -> bool:
    """Return whether matrices of int8 are computed of constants in an `onnx.ModelProto`."""
    import onnx

    proto = inlined(proto)
    computed = computed_of_constants(proto.graph)
    if not _decode(computed):
        return False
    inferred = onnx.shape_inference.infer_shapes(without_large_constants(proto)).graph
    types = {value.name: value.type.tensor_type for value in (*inferred.value_info, *inferred.output)}
    made = [types[name] for node in computed for name in node.output if name in types]
    return any(one.elem_type == onnx.TensorProto.INT8 and len(one.shape.dim) > 1 for one in made)


def _decode(computed: Iterable[Any]) -> bool:
    return any(_decodes(node) for node in computed)


def _decodes(node: Any) -> bool:
    """Return whether a node that depends on constants alone makes integers of others."""
    import onnx

    if node.op_type == "Cast" and not node.domain:
        return any(x.name == "to" and x.i in (onnx.TensorProto.INT8, onnx.TensorProto.INT32) for x in node.attribute)
    return node.op_type != "Constant" and (node.op_type not in UNPACKING or bool(node.domain))


def needed_for(nodes: list[Any], outputs: list[str]) -> list[Any]:
    """Return the nodes that some outputs need, in their order."""
    wanted, found = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update((*node.input, *captures(node)))
            found.append(node)
    return found[::-1]


def run_constants(
    proto: Any, computed: list[Any], names: list[str], path: pathlib.Path, around: Iterable[Any] = ()
) -> dict[str, Any]:
    """Return {name: array} of tensors that depend on constants alone.

    Args:
        proto: An `onnx.ModelProto`.
        computed: The nodes that depend on constants alone.
        names: Of the tensors.
        path: Of the file.
        around: Constants beside those of the model's graph, `onnx.TensorProto`s.
    """
    import onnx
    import onnxruntime

    nodes = needed_for(computed, names)
    read = {name for node in nodes for name in node.input}
    part = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    part.graph.name = "constants"
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(x for x in (*proto.graph.initializer, *around) if x.name in read)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a third of the processors' time
    folder = os.path.dirname(os.path.realpath(path))  # where other files may hold some of the values
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    with quiet():
        session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(names, {}), strict=True))
