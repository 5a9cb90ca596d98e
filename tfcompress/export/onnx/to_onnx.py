"""A trace as an ONNX model, through tf2onnx with its silences made loud."""

import contextlib
import functools
import logging
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

from tfcompress.core.error_messages import told
from tfcompress.core.out_of_memory import memory_error, out_of_memory
from tfcompress.core.quiet_output import quiet
from tfcompress.core.version import VERSION
from tfcompress.export.onnx import fake_quant_nodes
from tfcompress.export.onnx.canonical import make_canonical
from tfcompress.export.onnx.detached_constants import fill, lean, park, to_opset
from tfcompress.export.onnx.handlers import HANDLERS
from tfcompress.export.onnx.large_constants import put_back, set_apart
from tfcompress.export.onnx.large_lstms import LargeKernels
from tfcompress.export.onnx.passes import apply
from tfcompress.export.onnx.tf2onnx_private import all_optimizers, optimize_once, without_copied_sizes
from tfcompress.export.plan.planned_weights import NO_WEIGHTS, PlannedWeights
from tfcompress.export.plan.scheme import Scheme
from tfcompress.export.tflite.float16_weights import store_in_half
from tfcompress.tracing.frozen_graph import frozen
from tfcompress.tracing.trace import Trace
from tfcompress.tracing.unsupported_operators import blamed, named

OPSET = 18
"""The newest that tf2onnx 1.17 emits."""

OPSET_OF_16_BITS = 21
"""The first whose QuantizeLinear makes 16 bit integers."""

BATCH = "batch"


def to_onnx(
    trace: Trace,
    *,
    precision: str = "float32",
    opset: int = OPSET,
    scheme: Scheme | None = None,
    inference_io: str = "float32",
    weights: PlannedWeights = NO_WEIGHTS,
) -> Any:
    """Convert a trace to an ONNX model.

    Args:
        trace: of a model.
        precision: "float32", or "float16": weights stored in 16 bits, half the file, computed in float32.
        opset: of the ONNX standard; at least 21 is taken where activations have 16 bits.
        scheme: what is quantized; None: nothing is.
        inference_io: "float32", or "int8" or "uint8": the dtype of quantized inputs and outputs.
        weights: those that are integers.

    Returns:
        An `onnx.ModelProto`: inputs and outputs with the trace's names and in its order, a free batch named
        "batch".

    Raises:
        ValueError: tf2onnx can't convert an operator (the message has its own words), or a weight doesn't fit
            float16.
    """
    import onnx

    with quiet(), _errors_raised(trace):
        proto, parked = _convert(trace, min(opset, OPSET), scheme)
    if scheme is None:
        fill(proto, parked)
    else:
        apply(proto, scheme, weights, inference_io, parked)
        parked.clear()
        wide = scheme.activations == "static" and scheme.activation_bits > 8
        opset = max(opset, OPSET_OF_16_BITS) if wide else opset
    if opset > OPSET:
        to_opset(proto, opset)
    make_canonical(proto)
    _set_header(proto, trace)
    if precision == "float16":
        store_in_half(proto.graph)
    try:
        onnx.checker.check_model(lean(proto), full_check=True)
    except Exception as error:  # the checker's own, or that of the inference of shapes
        raise ValueError(
            f"Expected a model that ONNX has operators for. Received: {blamed(trace, str(error))}, whose file is none: "
            f"{told(error)}. Write that part with other operations, or export to .tflite."
        ) from error
    return proto


def _convert(trace: Trace, opset: int, scheme: Scheme | None) -> tuple[Any, dict[str, bytes]]:
    """Return the model, and the values of its large constants, which it lacks."""
    from tf2onnx import optimizer

    # What makes integers wants each pair of QuantizeLinear and DequantizeLinear where the fake-quantizer was.
    left_out = () if scheme is None else ("q_dq_optimizer", "const_dequantize_optimizer")
    optimizers = {name: make for name, make in all_optimizers().items() if name not in left_out}
    optimizers["remove_back_to_back"] = without_copied_sizes()
    graph = _graph(trace, opset)
    try:
        # tf2onnx copies the whole graph, weights too, before each of its optimizers, to step back should it
        # fail: a third of the memory and of the time. None of them fails as a rule.
        lean = {name: functools.partial(_Lean, make) for name, make in optimizers.items()}
        graph = optimizer.optimize_graph(graph, catch_errors=False, optimizers=lean)
    except Exception:  # an optimizer's bug is no reason to refuse a model
        graph = optimizer.optimize_graph(_graph(trace, opset), catch_errors=True, optimizers=optimizers)
    parked = park(graph)
    _in_order(graph)
    return graph.make_model(""), parked


class _Lean:
    """An optimizer of tf2onnx that doesn't write each constant anew when it is done: none of the old ones is freed."""

    def __init__(self, make: Any) -> None:
        self.optimizer = make()

    @property
    def graph_been_opt(self) -> bool:
        """Whether it changed anything."""
        return bool(self.optimizer.graph_been_opt)

    def optimize(self, graph: Any, iteration: int) -> Any:
        """Do what the optimizer's own `optimize` does, but for protobufs and statistics."""
        self.optimizer.opt_iteration = iteration
        graph = optimize_once(self.optimizer, graph)
        graph.delete_unused_nodes(graph.outputs)
        _in_order(graph)
        return graph


def _in_order(graph: Any) -> None:
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
            _in_order(inner)
    graph.reset_nodes([*others, *done.values()])


def _graph(trace: Trace, opset: int) -> Any:
    """Freeze the trace and map it to ONNX operators, not optimized yet."""
    import tensorflow as tf
    from tf2onnx import tfonnx

    # Only the arguments are inputs. What the function captured (weights, and constants such as the mean and
    # variance of a Normalization) stands behind them in `inputs`, and freezing makes constants of it.
    with tf.device("/cpu:0"):
        concrete, kernels = set_apart(trace)
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
                custom_op_handlers={
                    **HANDLERS,
                    "Erfc": (_erfc, []),
                    "FakeQuantWithMinMaxVars": (fake_quant_nodes.convert, []),
                },
                custom_rewriter=[recurrent.rewrite] if kernels else [],
                input_names=[*inputs, *kernels],
                output_names=outputs,
                tensors_to_rename=dict(zip(inputs + outputs, [*trace.inputs, *trace.outputs], strict=True)),
            )
    recurrent.put_back(made)
    put_back(made, kernels)
    _reshape_constants(made)
    made.delete_unused_nodes(made.outputs)
    _in_order(made)
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


def _erfc(context: Any, node: Any, name: str, args: Any) -> None:
    """Erfc(x), which exact GELU is made of, is 1 - Erf(x)."""
    from tf2onnx import utils

    dtype = utils.map_onnx_to_numpy_type(context.get_dtype(node.output[0]))
    one = context.make_const(utils.make_name(f"{name}_one"), np.ones((), dtype)).output[0]
    node.type = "Erf"
    output = node.output[0]
    context.insert_new_node_on_output("Sub", output, name=utils.make_name(name), inputs=[one, output])


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []
        self.reasons: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            self.reasons.append(told(record.exc_info[1]))


@contextlib.contextmanager
def _errors_raised(trace: Trace) -> Iterator[None]:
    """Raise what tf2onnx only logs: it returns a wrong graph after an error, as if nothing had been."""
    logger = logging.getLogger("tf2onnx")
    collector = _Collector()
    before = logger.propagate, logger.level, logger.disabled
    logger.addHandler(collector)
    logger.propagate = False
    logger.disabled = False
    logger.setLevel(logging.ERROR)
    cause: Exception | None = None
    try:
        yield
    except Exception as error:
        cause = error
    finally:
        logger.removeHandler(collector)
        logger.propagate, level, logger.disabled = before
        logger.setLevel(level)
    if out_of_memory(cause) and cause is not None:
        raise memory_error(f"convert model {trace.name!r} to ONNX", cause) from cause
    if collector.messages or cause:
        said = "; ".join(dict.fromkeys(collector.messages)) or str(cause)
        lacking = re.findall(r"\[\S+: (\w+)\] is not supported", said)
        where = named(trace, lacking) if lacking else blamed(trace, said)
        reasons = dict.fromkeys([*map(told, collector.messages), *collector.reasons])
        raise ValueError(
            f"Expected a model that tf2onnx can convert. Received: {where}, on which it failed: "
            f"{'; '.join(reasons) or told(cause or said)}. "
            "Write that part with other operations, move it out of the model, or export to .tflite."
        ) from cause


def _set_header(proto: Any, trace: Trace) -> None:
    """Say who made it, give free dimensions names that mean something, and drop the shapes between."""
    proto.producer_name = "tfcompress"
    proto.producer_version = VERSION
    proto.doc_string = ""
    proto.graph.doc_string = ""
    proto.graph.name = trace.scope
    del proto.graph.value_info[:]
    for value, (name, spec) in zip(
        [*proto.graph.input, *proto.graph.output],
        [*trace.inputs.items(), *trace.outputs.items()],
        strict=True,
    ):
        value.type.tensor_type.ClearField("shape")
        shape = value.type.tensor_type.shape
        shape.SetInParent()
        for axis, size in enumerate(spec.shape):
            dim = shape.dim.add()
            if size is not None:
                dim.dim_value = size
            else:
                # Sizes of one name are one size to ONNX Runtime.
                samples = not axis and trace.dynamic_batch and not trace.whole
                dim.dim_param = BATCH if samples else f"{name}_{axis}"
