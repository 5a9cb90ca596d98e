"""A trace as a graph of tf2onnx, which isn't optimized yet."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np

from tfcompress.export.onnx import fake_quant_nodes
from tfcompress.export.onnx.handlers import HANDLERS
from tfcompress.export.onnx.large_constants import detach_large, put_back
from tfcompress.export.onnx.large_lstms import LargeKernels
from tfcompress.tracing.frozen_graph import frozen
from tfcompress.tracing.trace import Trace


def unoptimized(trace: Trace, opset: int) -> Any:
    """Freeze the trace and map it to ONNX operators, not optimized yet."""
    import tensorflow as tf
    from tf2onnx import tfonnx

    # Only the arguments are inputs. What the function captured (weights, and constants such as the mean and
    # variance of a Normalization) stands behind them in `inputs`, and freezing makes constants of it.
    with tf.device("/cpu:0"):
        concrete, kernels = detach_large(trace)
        inputs = [tensor.name for tensor in concrete.inputs[: len(trace.inputs)]]
        outputs = [concrete.structured_outputs[name].name for name in trace.outputs]
        recurrent = LargeKernels({name: constant.value for name, constant in kernels.items()})
        graph_def = _frozen(concrete, [*inputs, *kernels], outputs)
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(graph_def, name="")
            del graph_def
            made = tfonnx.process_tf_graph(
                graph,
                continue_on_error=False,
                opset=opset,
                custom_op_handlers={**HANDLERS, "FakeQuantWithMinMaxVars": (fake_quant_nodes.convert, [])},
                custom_rewriter=[recurrent.rewrite] if kernels else [],
                input_names=[*inputs, *kernels],
                output_names=outputs,
                tensors_to_rename=dict(zip(inputs + outputs, [*trace.inputs, *trace.outputs], strict=True)),
            )
    recurrent.put_back(made)
    put_back(made, kernels)
    _reshape_constants(made)
    made.delete_unused_nodes(made.outputs)
    in_order(made)
    _resize_to_sizes(made)
    return made


def _frozen(concrete: Any, inputs: list[str], outputs: list[str]) -> Any:
    """Return the graph of a function with constants in place of variables, folded by TensorFlow."""
    import tensorflow as tf
    from tf2onnx import tf_loader

    graph_def = frozen(concrete, len(inputs))
    if graph_def is None or graph_def.library.function:  # functions are put where they are called
        return tf_loader.from_function(concrete, inputs, outputs)
    with tf.Graph().as_default():
        return tf_loader.tf_optimize(inputs, outputs, graph_def)


def _reshape_constants(graph: Any) -> None:
    """Compute the reshapes of constants, such as depthwise kernels: tf2onnx sorts the whole graph behind each."""
    for node in list(graph.get_nodes()):
        if node.type != "Reshape" or not all(x is not None and x.is_const() for x in node.inputs):
            continue
        value, sizes = (x.get_tensor_value(as_list=False) for x in node.inputs)
        shape = [own if size == 0 else size for own, size in zip_longest(value.shape[: len(sizes)], sizes)]
        graph.remove_node(node.name)
        graph.make_const(node.output[0], value.reshape(shape))


def _resize_to_sizes(graph: Any) -> None:
    """Let images be resized to a size where a factor in float32 misses it, as 10/12 makes 9 rows of 12."""
    from tf2onnx import utils

    for node in graph.get_nodes():
        behind = graph.find_output_consumers(node.output[0]) if node.type == "Resize" else []
        if len(behind) != 1 or behind[0].type != "Transpose" or len(node.input) != 3:
            continue
        missed, wanted = (graph.get_shape(x) for x in (node.output[0], behind[0].output[0]))
        if missed and wanted and missed[2:] != wanted[1:3] and min(wanted[1:3]) > 0:
            size = graph.make_const(utils.make_name(f"{node.name}_size"), np.array(wanted[1:3], np.int64))
            kept = graph.make_node("Shape", [node.input[0]], {"start": 0, "end": 2})
            sizes = graph.make_node("Concat", [kept.output[0], size.output[0]], {"axis": 0})
            graph.replace_inputs(node, [node.input[0], "", "", sizes.output[0]])
            graph.set_shape(node.output[0], [*missed[:2], *wanted[1:3]])


def in_order(graph: Any) -> None:
    """Let the nodes of a graph of tf2onnx stand as its outputs ask for them: it has them as a set has them.

    Which of two equal nodes stays depends on that order.
    """
    done: dict[str, Any] = {}
    for output in graph.outputs:
        stack = [graph.get_node_by_output(output, search_in_parent_graphs=False)]
        while stack:
            node = stack[-1]
            if node is None or node.name in done:
                stack.pop()
                continue
            read = [*node.input, *node.get_implicit_inputs()]
            makers = [graph.get_node_by_output(name, search_in_parent_graphs=False) for name in read if name]
            waiting = [maker for maker in makers if maker is not None and maker.name not in done]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            done[stack.pop().name] = node
    others = sorted((node for node in graph.get_nodes() if node.name not in done), key=lambda node: str(node.name))
    for node in graph.get_nodes():
        for inner in (node.get_body_graphs() or {}).values():
            in_order(inner)
    graph.reset_nodes([*others, *done.values()])
