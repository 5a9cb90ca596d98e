"""Large constants, kept out of TensorFlow's graphs on their way to ONNX.

Freezing a graph and optimizing it copy all of its constants some twenty times. A large one that convolutions, products,
look-ups and loops read is an input of the graph until then, and becomes a constant in the graph that is mapped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcompress.export.onnx.detached_constants import add_empty
from tfcompress.tracing.constant_parts import constant_tensors, reachable, values_of
from tfcompress.tracing.function_graph import captured_by, function_of
from tfcompress.tracing.loop_variables import pass_value
from tfcompress.tracing.trace import Trace

LEAST_BYTES = 1 << 16
"""Smaller constants stay where they are."""

_CONVOLUTIONS = ("Conv2D", "Conv3D")
"""Of these TensorFlow makes a factor that follows part of the kernel."""

_READERS = {
    "Conv2D": (1,), "Conv3D": (1,), "DepthwiseConv2dNative": (1,), "Conv2DBackpropInput": (1,),
    "Conv3DBackpropInputV2": (1,), "MatMul": (0, 1), "BatchMatMulV2": (0, 1), "Einsum": (0, 1), "GatherV2": (0,),
}  # fmt: skip
"""What may read one, at which of its inputs: no optimizer of TensorFlow computes any of it beforehand."""

_OFFSETS = ("Add", "AddV2", "BiasAdd")


@dataclasses.dataclass(frozen=True)
class DetachedConstant:
    """A constant that is an argument of a function.

    Attributes:
        trace: of the model that it is part of.
        source: a variable, or a tensor in the trace's graph that is computed of variables and constants alone.
        factor: for each output channel, what follows its convolution; None: nothing.
    """

    trace: Trace
    source: Any
    factor: np.ndarray | None = None

    def value(self) -> np.ndarray:
        """Return what it is."""
        import tensorflow as tf

        known = isinstance(self.source, tf.Variable)
        value = np.asarray(self.source) if known else values_of(self.trace, [self.source])[0]
        return value if self.factor is None else value * self.factor


def detach_large(trace: Trace, least_bytes: int | None = None) -> tuple[Any, dict[str, DetachedConstant]]:
    """Make of a trace a function that takes its large constants as arguments.

    Args:
        trace: of a model.
        least_bytes: that a constant has which is set apart; None: `LEAST_BYTES`.

    Returns:
        The concrete function: the trace's own, with an argument behind its inputs for each large constant. And
        {name of that argument's tensor: the constant}.
    """
    import tensorflow as tf

    least = LEAST_BYTES if least_bytes is None else least_bytes
    concrete, inputs = trace.concrete, trace.concrete.inputs[: len(trace.inputs)]
    captured = captured_by(concrete, len(inputs))
    outputs = {name: concrete.structured_outputs[name].name for name in trace.outputs}
    graph_def = concrete.graph.as_graph_def()
    nodes = {node.name: node for node in graph_def.node}
    _, needed = reachable(graph_def, outputs.values(), set())
    fixed = {name: x for name, x in constant_tensors(concrete, captured).items() if x.op.name in needed}
    found: dict[str, DetachedConstant] = {}  # by the name of the tensor in whose place the argument is
    specs: dict[str, Any] = {}
    for handle, outer in captured.items():
        looked_up = [op for op in _looked_up(concrete, handle, outer, least) if op.name in needed]
        for place, op in enumerate(looked_up):
            name = f"table_of_{looked_up[0].name.replace('/', '_')}"
            _make_gather(graph_def, nodes[op.name], name, at=place)
            found[f"{name}:0"], specs[f"{name}:0"] = (
                DetachedConstant(trace, outer),
                tf.TensorSpec(outer.shape, outer.dtype),
            )
        argument = f"value_of_{handle.split(':')[0].replace('/', '_')}"
        if _is_kernel(outer, least) and pass_value(graph_def, handle.split(":")[0], argument, _spec(outer)):
            found[f"{argument}:0"], specs[f"{argument}:0"] = DetachedConstant(trace, outer), _spec(outer)
    for x in fixed.values():
        if x.name in outputs.values() or not _is_large(x, least) or not _is_read(x, fixed):
            continue
        known, factor = captured.get(x.op.inputs[0].name) if x.op.type == "ReadVariableOp" else None, None
        readers = x.consumers()
        if len(readers) == 1 and readers[0].type in _CONVOLUTIONS:
            factor = _take_factor(trace, readers[0], fixed, nodes)
        found[x.name] = DetachedConstant(trace, x if known is None else known, factor)
        specs[x.name] = tf.TensorSpec(x.shape, x.dtype)
    if not found:
        return concrete, {}
    named = {
        **{x.name: tf.TensorSpec(x.shape, x.dtype, name=x.op.name) for x in inputs},
        **{
            name: tf.TensorSpec(spec.shape, spec.dtype, name=f"kernel_apart_{i}")
            for i, (name, spec) in enumerate(specs.items())
        },
    }
    left, used = reachable(graph_def, outputs.values(), set(found))
    others = {name: outer for name, outer in captured.items() if name.split(":")[0] in used}
    made = function_of(left, named, others, outputs)
    names = [x.name for x in made.inputs[len(inputs) : len(named)]]
    return made, dict(zip(names, found.values(), strict=True))


def put_back(graph: Any, detached: Mapping[str, DetachedConstant]) -> None:
    """Make constants of the inputs of a graph of tf2onnx that stand for some.

    Args:
        graph: of tf2onnx.
        detached: {name of the input: constant}.
    """
    import onnx

    known: dict[Any, str] = {}  # one that is read twice is stored once
    for name, constant in detached.items():
        node = graph.get_node_by_output(name)
        readers = graph.find_output_consumers(name)
        if not readers:
            graph.remove_node(node.name)
            continue
        orders = {tuple(reader.get_attr_value("perm")) if reader.type == "Transpose" else () for reader in readers}
        turned = () if len(orders) != 1 else orders.pop()
        made = known.get(key := (id(constant.source), turned)) if constant.factor is None else None
        if made is None:
            value = constant.value()
            if turned:  # the optimizer would copy it six times for that
                value = value.transpose(turned)
            made, data_type = f"{node.name}_value", onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            shape: dict[str, Any] = {"dims": value.shape, "shape": value.shape}
            add_empty(graph, made, made, data_type=data_type, dtype=data_type, **shape).raw_data = value.tobytes()
            if constant.factor is None:
                known[key] = made
        for reader in readers if turned else ():
            graph.replace_all_inputs(reader.output[0], made)
            graph.remove_node(reader.name)
        graph.replace_all_inputs(name, made)
        graph.remove_node(node.name)


def _is_large(x: Any, least: int) -> bool:
    return x.shape.is_fully_defined() and x.dtype.size * math.prod(x.shape) >= least and len(x.op.outputs) == 1


def _is_read(x: Any, fixed: Mapping[str, Any]) -> bool:
    """Return whether nothing but `_READERS` reads a tensor, beside what makes other constants of it."""
    readers = [op for op in x.consumers() if any(out.name not in fixed for out in op.outputs)]
    for op in readers:
        places = [place for place, other in enumerate(op.inputs) if other is x]
        if not set(places) <= set(_READERS.get(op.type, ())):
            return False
    return bool(readers)


def _is_kernel(outer: Any, least: int) -> bool:
    """Return whether what a function captured is a large variable of several dimensions."""
    import tensorflow as tf

    if not isinstance(outer, tf.Variable) or len(outer.shape) < 2 or not outer.shape.is_fully_defined():
        return False
    return bool(outer.dtype.size * math.prod(outer.shape) >= least)


def _spec(variable: Any) -> Any:
    import tensorflow as tf

    return tf.TensorSpec(variable.shape, variable.dtype)


def _looked_up(concrete: Any, handle: str, outer: Any, least: int) -> list[Any]:
    """Return the operations that look something up in a large variable; none if something else changes it."""
    import tensorflow as tf

    if not isinstance(outer, tf.Variable) or outer.dtype.size * math.prod(outer.shape) < least:
        return []
    readers = concrete.graph.get_tensor_by_name(handle).consumers()
    if any(op.type not in ("ResourceGather", "ReadVariableOp") for op in readers):
        return []
    found = [op for op in readers if op.type == "ResourceGather"]
    return found if all(op.get_attr("batch_dims") == 0 for op in found) else []


def _make_gather(graph_def: Any, node: Any, table: str, at: int) -> None:
    """Let a ResourceGather look up in a tensor, as freezing does."""
    import tensorflow as tf

    dtype, indices = node.attr["dtype"].type, node.attr["Tindices"].type
    axis = graph_def.node.add(name=f"{table}_axis_{at}", op="Const")
    axis.attr["dtype"].type = tf.int32.as_datatype_enum
    axis.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0, tf.int32))
    node.op, which = "GatherV2", node.input[1]
    del node.input[:]
    node.input.extend([table, which, axis.name])
    node.attr.clear()
    node.attr["Tparams"].type, node.attr["Tindices"].type = dtype, indices
    node.attr["Taxis"].type = tf.int32.as_datatype_enum


def _take_factor(trace: Trace, convolution: Any, fixed: Mapping[str, Any], nodes: Mapping[str, Any]) -> Any | None:
    """Take the constant factor behind a convolution out of a graph and return it; None where none follows."""
    x, idle = convolution.outputs[0], []
    channels = x.shape[-1]
    of_kernel, of_input = convolution.inputs[1].shape[-2], convolution.inputs[0].shape[-1]
    first = convolution.get_attr("data_format") in (b"NHWC", b"NDHWC") and of_kernel == of_input
    while first and len(x.consumers()) == 1:
        op = x.consumers()[0]
        other = next((other for other in op.inputs if other is not x), None)
        if op.type not in (*_OFFSETS, "Mul") or not _is_for_channels(other, fixed, channels):
            break
        value = np.ravel(values_of(trace, [other])[0])
        idle.append((op, x))
        if op.type == "Mul":
            for gone, before in idle:
                _make_identity(nodes[gone.name], before)
            return np.broadcast_to(value, (channels,))
        if value.any():  # an offset of zero TensorFlow leaves out
            break
        x = op.outputs[0]
    return None


def _is_for_channels(x: Any, fixed: Mapping[str, Any], channels: int) -> bool:
    """Return whether a tensor is a constant, of one value for all channels or for each."""
    if x is None or x.name not in fixed or not x.shape.is_fully_defined():
        return False
    values = math.prod(x.shape)
    return values == 1 or (values == channels and x.shape[-1] == channels)


def _make_identity(node: Any, of: Any) -> None:
    dtype = of.dtype.as_datatype_enum
    node.op = "Identity"
    del node.input[:]
    node.input.append(of.name.removesuffix(":0"))
    node.attr.clear()
    node.attr["T"].type = dtype
