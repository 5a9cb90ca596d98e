"""The integer weights of an ONNX model in their smallest storage forms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from tfcompress.export.onnx.container import shorten_names, shrink
from tfcompress.export.onnx.functions import add
from tfcompress.export.onnx.recurring_nodes import write_once
from tfcompress.export.onnx.weights.choice import WIDTHS, choose
from tfcompress.export.onnx.weights.decoders import functions
from tfcompress.export.onnx.weights.form import Weight, Writer
from tfcompress.export.onnx.weights.plain import Plain

IR = {21: 10, 23: 11, 24: 12, 25: 13}
"""{opset: the first version of the format whose types it has}, of opsets with new ones."""


@dataclasses.dataclass(frozen=True)
class CodedWeight:
    """How an integer weight is stored in a file that unpacks itself.

    Attributes:
        layer: That has it; the name of its tensor where no layer is known.
        form: In words.
        parameters: How many integers it has.
        plain_bytes: That it would take of the file as int8.
        nbytes: That it takes; what several weights share counts with the first.
    """

    layer: str
    form: str
    parameters: int
    plain_bytes: int
    nbytes: int


def code(
    proto: Any,
    layer_of: Callable[[np.ndarray], str | None] = lambda integers: None,
    names: bool = False,
    bits: Collection[int] = WIDTHS,
) -> tuple[tuple[CodedWeight, ...], tuple[str, ...]]:
    """Store the integer weights of a model in the forms with which its file is smallest, in place.

    What the model computes stays the same, bit by bit.

    Args:
        proto: An `onnx.ModelProto` of opset 18 or later, with all values in it.
        layer_of: Takes the integers of a weight, returns the layer that has it; `None`: not known.
        names: Whether inner tensors keep their names.
        bits: Of ONNX' own types that weights may have.

    Returns:
        How each weight is stored; and the names of what the nodes make, in their order, as far as they lost them.
    """
    import onnx

    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    shrink(proto)
    graph = proto.graph
    tensors = [x for x in graph.initializer if x.data_type == onnx.TensorProto.INT8 and len(x.dims) > 1]
    weights = [Weight(onnx.numpy_helper.to_array(tensor)) for tensor in tensors]
    writer = Writer({tensor.name for tensor in graph.initializer} | {x for node in graph.node for x in node.output})
    stored: list[CodedWeight] = []
    gone: set[str] = set()
    for tensor, weight, form in zip(tensors, weights, choose(weights, opset, bits), strict=True):
        plain = nbytes = tensor.ByteSize()
        if not isinstance(form, Plain):
            begun = len(writer.constants), len(writer.nodes)
            form.write(form.encode(weight), weight.integers.shape, writer, tensor.name)
            added = (*writer.constants[begun[0] :], *writer.nodes[begun[1] :])
            nbytes = sum(one.ByteSize() for one in added)
            gone.add(tensor.name)
        layer = layer_of(weight.integers) or tensor.name
        stored.append(CodedWeight(layer, str(form), weight.integers.size, plain, nbytes))
    for place in reversed([i for i, tensor in enumerate(graph.initializer) if tensor.name in gone]):
        del graph.initializer[place]
    graph.initializer.extend(writer.constants)
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*writer.nodes, *others])
    proto.ir_version = max(proto.ir_version, *(ir for first, ir in IR.items() if first <= opset), 0)
    add(proto, functions(writer.decoders, opset))
    old = {} if names else shorten_names(proto)
    write_once(proto)
    lost = tuple(old.get(name, name) for node in graph.node for name in node.output) if old else ()
    return tuple(stored), lost
