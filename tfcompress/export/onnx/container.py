"""A small ONNX file: what a runtime doesn't read is left out, and what follows from the rest is computed at load."""

from __future__ import annotations

import collections
import itertools
import string
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfcompress.export.onnx.node_index import captures, index_of, inner_graphs
from tfcompress.runtime.integer_io import QUANTIZERS

LEAST = 16
"""Values from which on a node takes fewer bytes than it saves."""

MOST_SCALE = 0.5
"""Up to which a scale that is cast to an integer is 0, however a runtime rounds."""

FIRST, LETTERS = string.ascii_letters, string.ascii_letters + string.digits


def shrink(proto: Any) -> None:
    """Make the container of a quantized model small, in place.

    Zero points that are 0 are left out, scales of biases are computed, attributes that say what is so anyway go, so
    does what of the header says nothing, and equal constants are stored once.

    Args:
        proto: An `onnx.ModelProto`.
    """
    _leave_out_header(proto)
    _leave_out_zero_points(proto.graph)
    _compute_bias_scales(proto.graph)
    _narrow_biases(proto.graph)
    _share(proto.graph)
    _leave_out_defaults(proto)
    used = {name for node in proto.graph.node for name in (*node.input, *captures(node))}
    used |= {value.name for value in proto.graph.output}
    for place in reversed([i for i, tensor in enumerate(proto.graph.initializer) if tensor.name not in used]):
        del proto.graph.initializer[place]


def shorten_names(proto: Any) -> dict[str, str]:
    """Give all tensors names of one or two letters, and nodes none, in place; inputs and outputs keep theirs.

    Args:
        proto: An `onnx.ModelProto`.

    Returns:
        {new name: old name}.
    """
    graph = proto.graph
    graph.name = "g"
    kept = {value.name for value in (*graph.input, *graph.output)} | set(_inner_names(graph))
    counts: collections.Counter[str] = collections.Counter(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        counts.update((*node.input, *node.output, *captures(node)))
    own = {tensor.name for tensor in graph.initializer} | {name for node in graph.node for name in node.output}
    wanted = sorted((name for name in counts if name and name in own - kept), key=lambda name: -counts[name])
    names = dict(zip(wanted, (name for name in short_names() if name not in kept), strict=False))
    _rename(graph.node, names)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for place in reversed([i for i, entry in enumerate(proto.metadata_props) if entry.key == QUANTIZERS]):
        del proto.metadata_props[place]  # of names that aren't there any more
    return {new: old for old, new in names.items()}


def short_names() -> Iterator[str]:
    """Yield a, b, ..., Z, aa, ...: names as short as can be."""
    for length in itertools.count(1):
        for first, *others in itertools.product(FIRST, *[LETTERS] * (length - 1)):
            yield "".join((first, *others))


def _inner_names(graph: Any) -> Iterator[str]:
    """Yield the names of what graphs inside of nodes have for themselves."""
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from (value.name for value in (*inner.input, *inner.initializer))
            yield from (name for each in inner.node for name in each.output)
            yield from _inner_names(inner)


def _rename(nodes: Any, names: dict[str, str]) -> None:
    for node in nodes:
        node.ClearField("name")
        node.ClearField("doc_string")
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in inner_graphs(node):
            _rename(inner.node, names)
            for value in inner.output:
                value.name = names.get(value.name, value.name)


def _arrays(graph: Any) -> dict[str, Any]:
    """Return {name: array} of the constants that are small enough to look at."""
    from onnx import external_data_helper, numpy_helper

    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if len(tensor.dims) < 2 and not external_data_helper.uses_external_data(tensor)
    }


def _leave_out_header(proto: Any) -> None:
    """Leave out texts that say nothing, and sets of operators that no node is of."""
    used = {"", "ai.onnx", *(node.domain for graph in _graphs(proto.graph) for node in graph.node)}
    used |= {node.domain for function in proto.functions for node in function.node}
    for place in reversed([i for i, entry in enumerate(proto.opset_import) if entry.domain not in used]):
        del proto.opset_import[place]
    proto.ClearField("producer_version")
    for message in (proto, proto.graph):
        message.ClearField("doc_string") if not message.doc_string else None
    for entry in proto.opset_import:
        entry.ClearField("domain") if not entry.domain else None


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph, and those inside of its nodes."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from _graphs(inner)


def _leave_out_zero_points(graph: Any) -> None:
    """Leave out the zero points of kernels and biases that are 0; compute those that ONNX Runtime wants to be there.

    Without one of its weights it makes no integer kernel of a Gemm or MatMul.
    """
    import onnx

    arrays, index = _arrays(graph), index_of(graph)
    made: list[Any] = []
    for node in graph.node:
        zero = arrays.get(node.input[2]) if node.op_type == "DequantizeLinear" and len(node.input) > 2 else None
        scale = arrays.get(node.input[1]) if zero is not None else None
        if zero is None or scale is None or zero.any():
            continue
        readers = [
            (reader.op_type, list(reader.input).index(node.output[0])) for reader in index.readers(node.output[0])
        ]
        if readers and all(place == 2 or (place == 1 and kind == "Conv") for kind, place in readers):
            del node.input[2:]
        elif zero.dtype == np.int8 and zero.size >= LEAST and (scale < MOST_SCALE).all():
            node.input[2] = f"{node.input[2]}/computed/{len(made)}"
            made.append(onnx.helper.make_node("Cast", [node.input[1]], [node.input[2]], to=onnx.TensorProto.INT8))
    _put_first(graph, made)


def _compute_bias_scales(graph: Any) -> None:
    """Let the scales of a bias be the product of those of the input and of the weights, which they are bit by bit."""
    import onnx

    arrays, index = _arrays(graph), index_of(graph)
    made: list[Any] = []
    for node in graph.node:
        producers = map(index.producer, node.input)
        dequantized = [one for one in producers if one is not None and one.op_type == "DequantizeLinear"]
        if node.op_type not in ("Conv", "Gemm") or len(dequantized) != 3:
            continue
        names = [one.input[1] for one in dequantized]
        of_input, of_weights, of_bias = (arrays.get(name) for name in names)
        if of_input is None or of_weights is None or of_bias is None or of_bias.size < LEAST:
            continue
        product = np.multiply(of_input, of_weights, dtype=np.float32)
        if product.shape == of_bias.shape and np.array_equal(product, of_bias):
            dequantized[2].input[1] = f"{names[2]}/product/{len(made)}"
            made.append(onnx.helper.make_node("Mul", names[:2], [dequantized[2].input[1]]))
    _put_first(graph, made)


def _narrow_biases(graph: Any) -> None:
    """Store biases that have at most 16 bits in so many."""
    import onnx

    arrays, made = _arrays(graph), []
    biases = {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    for tensor in graph.initializer:
        values = arrays.get(tensor.name)
        if tensor.name not in biases or values is None or values.dtype != np.int32 or values.size < LEAST:
            continue
        narrow = values.astype(np.int16)
        if np.array_equal(narrow, values):
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(narrow, f"{name}/int16"))
            made.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.INT32))
    _put_first(graph, made)


def _share(graph: Any) -> None:
    """Let constants that are equal be one."""
    known: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    names = {}
    for tensor in graph.initializer:
        if tensor.HasField("raw_data"):
            key = tensor.data_type, tuple(tensor.dims), tensor.raw_data
            names[tensor.name] = known.setdefault(key, tensor.name)
    captured = {name for node in graph.node for name in captures(node)} | {value.name for value in graph.output}
    for node in graph.node:
        node.input[:] = [name if name in captured else names.get(name, name) for name in node.input]


def _leave_out_defaults(proto: Any) -> None:
    """Leave out attributes that have the value which they have without it, and the sizes of a convolution's kernel."""
    import onnx

    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    for node in proto.graph.node:
        node.ClearField("domain") if not node.domain else None
        if node.domain not in ("", "ai.onnx"):
            continue
        known = onnx.defs.get_schema(node.op_type, opset).attributes
        for place in reversed(range(len(node.attribute))):
            attribute = node.attribute[place]
            value = onnx.helper.get_attribute_value(attribute)
            default = known[attribute.name].default_value if attribute.name in known else None
            same = default is not None and default.type and onnx.helper.get_attribute_value(default) == value
            ones = node.op_type == "Conv" and attribute.name in ("dilations", "strides") and set(value) == {1}
            if same or ones or (node.op_type == "Conv" and attribute.name == "kernel_shape"):
                del node.attribute[place]


def _put_first(graph: Any, nodes: list[Any]) -> None:
    """Put nodes that depend on constants alone in front of all others."""
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *others])
