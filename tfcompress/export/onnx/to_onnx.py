"""A trace as an ONNX model, through tf2onnx, what it only logs raised as errors."""

import functools
from typing import Any

from tfcompress.core.error_messages import told
from tfcompress.core.quiet_output import quiet
from tfcompress.core.version import VERSION
from tfcompress.export.onnx.canonical import make_canonical
from tfcompress.export.onnx.detached_constants import detach, fill, to_opset, without_large_constants
from tfcompress.export.onnx.float16_weights import store_in_half
from tfcompress.export.onnx.passes import apply
from tfcompress.export.onnx.reshapes import reshape_less
from tfcompress.export.onnx.tf2onnx_errors import errors_raised
from tfcompress.export.onnx.tf2onnx_graph import in_order, unoptimized
from tfcompress.export.onnx.tf2onnx_private import all_optimizers, optimize_once, without_copied_sizes
from tfcompress.export.plan.planned_weights import NO_WEIGHTS, PlannedWeights
from tfcompress.export.plan.scheme import Scheme
from tfcompress.tracing.trace import Trace
from tfcompress.tracing.unsupported_operators import blamed

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
    packed: bool = False,
) -> Any:
    """Convert a trace to an ONNX model.

    Args:
        trace: of a model.
        precision: "float32", or "float16": weights stored in 16 bits, half the file, computed in float32.
        opset: of the ONNX standard; at least 21 is taken where activations have 16 bits.
        scheme: what is quantized; None: nothing is.
        inference_io: "float32", or "int8" or "uint8": the dtype of quantized inputs and outputs.
        weights: those that are integers.
        packed: whether ONNX Runtime's own operator may multiply by weights of 4 bits.

    Returns:
        An `onnx.ModelProto`: inputs and outputs with the trace's names and in its order, a free batch named
        "batch".

    Raises:
        ValueError: tf2onnx can't convert an operator (the message has its own words), or a weight doesn't fit
            float16.
    """
    import onnx

    with quiet(), errors_raised(trace):
        proto, detached = _convert(trace, min(opset, OPSET), scheme)
    reshape_less(proto)
    if scheme is None:
        fill(proto, detached)
    else:
        apply(proto, scheme, weights, inference_io, detached, packed=packed)
        detached.clear()
        wide = scheme.activations == "static" and scheme.activation_bits > 8
        opset = max(opset, OPSET_OF_16_BITS) if wide else opset
    if opset > OPSET:
        to_opset(proto, opset)
    make_canonical(proto)
    _set_header(proto, trace)
    if precision == "float16":
        store_in_half(proto.graph)
    try:
        onnx.checker.check_model(without_large_constants(proto), full_check=True)
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
    graph = unoptimized(trace, opset)
    try:
        # tf2onnx copies the whole graph, weights too, before each of its optimizers, to step back should it
        # fail: a third of the memory and of the time. None of them fails as a rule.
        light = {name: functools.partial(_WithoutCopies, make) for name, make in optimizers.items()}
        graph = optimizer.optimize_graph(graph, catch_errors=False, optimizers=light)
    except Exception:  # an optimizer's bug is no reason to refuse a model
        graph = optimizer.optimize_graph(unoptimized(trace, opset), catch_errors=True, optimizers=optimizers)
    detached = detach(graph)
    in_order(graph)
    return graph.make_model(""), detached


class _WithoutCopies:
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
        in_order(graph)
        return graph


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
