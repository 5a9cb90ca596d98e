"""Large kernels, kept out of TensorFlow's graphs on their way to ONNX.

Freezing a graph and optimizing it copy all of its constants a dozen times. A large kernel that one convolution or one
product reads is an input of the graph until then, and becomes a constant in the graph that is mapped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.export.functions import captured_by, function_of
from tfcompress.export.tracing import Trace

LEAST_BYTES = 1 << 16
"""Smaller kernels stay where they are."""

_READERS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul")
"""What may read a kernel: no optimizer of TensorFlow computes any of it beforehand, as it would a reshaped kernel."""

_OFFSETS = ("Add", "AddV2", "BiasAdd", "Sub")
_FACTORS = ("Mul", "Div", "RealDiv", "FusedBatchNormV3")


def set_apart(trace: Trace, least_bytes: int | None = None) -> tuple[Any, dict[str, Any]]:
    """Make of a trace a function that takes its large kernels as arguments.

    Args:
        trace: of a model.
        least_bytes: that a kernel has which is set apart; None: `LEAST_BYTES`.

    Returns:
        The concrete function: the trace's own, with an argument behind its inputs for each large kernel. And
        {name of that argument's tensor: variable}.
    """
    import tensorflow as tf

    least = LEAST_BYTES if least_bytes is None else least_bytes
    concrete = trace.concrete
    inputs = concrete.inputs[: len(trace.inputs)]
    captured = captured_by(concrete, len(inputs))
    apart: list[Any] = []  # what the kernels are read into
    kernels: list[Any] = []
    others: dict[str, Any] = {}
    for inner in concrete.inputs[len(inputs) :]:
        outer = captured[inner.name]
        kernel = _only_read(inner) if isinstance(outer, tf.Variable) and _bytes(outer) >= least else None
        if kernel is None:
            others[inner.name] = outer
        else:
            apart.append(kernel)
            kernels.append(outer)
    if not apart:
        return concrete, {}
    outputs = {name: concrete.structured_outputs[name].name for name in trace.outputs}
    signature = [
        *(tf.TensorSpec(x.shape, x.dtype, name=x.op.name) for x in inputs),
        *(tf.TensorSpec(x.shape, x.dtype, name=f"kernel_apart_{i}") for i, x in enumerate(apart)),
    ]
    arguments = dict(zip([x.name for x in (*inputs, *apart)], signature, strict=True))
    made = function_of(concrete.graph.as_graph_def(), arguments, others, outputs)
    names = [x.name for x in made.inputs[len(inputs) : len(signature)]]
    return made, dict(zip(names, kernels, strict=True))


def put_back(graph: Any, kernels: dict[str, Any]) -> None:
    """Make constants of the inputs of a graph of tf2onnx that stand for kernels.

    Args:
        graph: of tf2onnx.
        kernels: {name of the input: variable}.
    """
    for name, variable in kernels.items():
        node = graph.get_node_by_output(name)
        constant = graph.make_const(f"{node.name}_value", np.asarray(variable))
        graph.replace_all_inputs(name, constant.output[0])
        graph.remove_node(node.name)


def _bytes(variable: Any) -> int:
    return int(variable.dtype.size * variable.shape.num_elements())


def _only_read(handle: Any) -> Any | None:
    """Return the tensor into which a variable is read, if that is done once, for one of `_READERS`."""
    reads = handle.consumers()
    if len(reads) != 1 or reads[0].type != "ReadVariableOp":
        return None
    value = reads[0].outputs[0]
    readers = value.consumers()
    if len(readers) != 1 or readers[0].type not in _READERS or readers[0].inputs[1] is not value:
        return None
    folds = readers[0].type != "MatMul" and _scaled(readers[0].outputs[0])
    return None if folds else value


def _scaled(x: Any) -> bool:
    """Return whether a factor follows, as that of a batch normalization: TensorFlow makes it part of the kernel."""
    readers = x.consumers()
    return any(op.type in _FACTORS or (op.type in _OFFSETS and _scaled(op.outputs[0])) for op in readers)
