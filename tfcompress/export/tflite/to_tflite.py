"""A trace as TFLite bytes: builtin operators alone."""

import hashlib
import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfcompress.core.error_messages import told
from tfcompress.core.out_of_memory import LARGE, give_back, memory_error, out_of_memory
from tfcompress.core.quiet_output import quiet
from tfcompress.core.tensorflow_private import GraphBytes, around_last_pass, convert_graph, convert_saved_model
from tfcompress.export.plan.planned_weights import NO_WEIGHTS, PlannedWeights
from tfcompress.export.plan.scheme import Scheme
from tfcompress.export.tflite.flatbuffer import File
from tfcompress.export.tflite.fused_lstms import custom_operators, fuse_lstms
from tfcompress.export.tflite.integer_kernels import lower
from tfcompress.export.tflite.weight_only import store_integers
from tfcompress.export.tflite.weights.storage import SPEED
from tfcompress.quantization.numerics.grid import Grid
from tfcompress.tracing.frozen_graph import frozen
from tfcompress.tracing.fused_lstms import has_fused
from tfcompress.tracing.trace import Trace
from tfcompress.tracing.unsupported_operators import blamed, named, onnx_has

SIGNATURE = "serving_default"

MOST_REPEATED = 0.01
"""Part of a large file that constants may take up which stand there twice."""

LARGEST_GRAPH = 1 << 26
"""Bytes of weights from which on they are saved as variables, which takes longer: of constants the converter has six
copies at once."""


def to_tflite(
    trace: Trace,
    *,
    precision: str = "float32",
    scheme: Scheme | None = None,
    inference_io: str = "float32",
    weights: PlannedWeights = NO_WEIGHTS,
    prefer: str = SPEED,
    grids: Sequence[Grid] = (),
) -> bytes:
    """Convert a trace to a TFLite file.

    Args:
        trace: of a model.
        precision: "float32", or "float16": weights stored in 16 bits, half the file, computed in float32.
        scheme: in what numbers the file computes; None: in float.
        inference_io: dtype of the floating inputs and outputs, "float32", "int8" or "uint8"; the integers are for
            a static scheme of 8 bits.
        weights: those that are integers.
        prefer: "speed" or "size", where weights of fewer than 8 bits can't have both.
        grids: those of activations, as planned.

    Returns:
        The bytes of the file. Its signature has the names of the trace's inputs and outputs.

    Raises:
        ValueError: the model needs an operator that no stock interpreter has; the message names it. Or its inputs
            or outputs can't be integers.
    """
    with quiet():
        try:
            # A float file isn't taken apart, so it has to come with its signature.
            graph = None if scheme is None else _frozen(trace)
            content = _of_saved_model(trace, precision) if graph is None else _of_graph(trace, graph)
        except Exception as error:  # ConverterError, a RuntimeError from below it, or what can't be saved
            raise _explain(trace, error) from error
    fused = has_fused(trace)
    if scheme is None and not fused:
        return _in_model_order(trace, content)
    file = File(_in_model_order(trace, content) if graph is None else content)
    del content  # as long as anything holds it, its floats stay beside the integers
    if scheme is None:
        _fuse(trace, file)
        return file.to_bytes()
    file.drop_remarks()
    if graph is not None:
        file.add_signature(SIGNATURE, list(trace.inputs), list(trace.outputs))
    if scheme.activations == "static":
        lower(file, weights, inference_io, prefer, grids)
    if fused:
        _fuse(trace, file)
    # Float fallbacks have integer weights, too.
    store_integers(file, weights, scheme.activations == "dynamic", prefer)
    return file.to_bytes()


def _fuse(trace: Trace, file: File) -> None:
    """Let the LSTMs of a file be TFLite's own; refuse other operators that the converter took over as they are."""
    fuse_lstms(file)
    unknown = custom_operators(file)
    if unknown:
        raise _explain(
            trace, RuntimeError(f"TF Select ops: {', '.join(name.removeprefix('Flex') for name in unknown)}")
        )


def _frozen(trace: Trace) -> GraphBytes | None:
    """Return the graph of a trace as bytes; `None` where it is to be converted by way of a SavedModel.

    What they were made of is freed before the converter works on them.
    """
    if _weight_bytes(trace) > LARGEST_GRAPH:
        return None
    graph_def = frozen(trace.concrete, len(trace.inputs))
    if graph_def is None:
        return None
    graph = GraphBytes(graph_def)
    del graph_def
    give_back(len(graph.SerializeToString()))
    return graph


def _of_graph(trace: Trace, graph: GraphBytes) -> bytes:
    """Convert a graph without variables; the file has no signature, and repeated constants are joined later."""
    concrete = trace.concrete
    outputs = [concrete.structured_outputs[name] for name in trace.outputs]
    return convert_graph(concrete, graph, concrete.inputs[: len(trace.inputs)], outputs, _setting_up(trace))


def _of_saved_model(trace: Trace, precision: str) -> bytes:
    """Convert a trace by way of a SavedModel, whatever it does with its variables."""
    import tensorflow as tf

    plain = _setting_up(trace)

    def set_up(converter: Any) -> None:
        plain(converter)
        if precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        _read_once(converter)

    # A module that holds what the function captures: without it the converter leaves the variables unfrozen
    # (NaN).
    holder = tf.Module()
    holder.variables_of_trace = list(trace.concrete.variables)
    with tempfile.TemporaryDirectory(prefix="tfcompress-") as folder:
        tf.saved_model.save(holder, folder, signatures={SIGNATURE: trace.concrete})
        give_back(_weight_bytes(trace))
        return convert_saved_model(folder, SIGNATURE, set_up)


def _weight_bytes(trace: Trace) -> int:
    return sum(variable.dtype.size * variable.shape.num_elements() for variable in trace.concrete.variables)


def _setting_up(trace: Trace) -> Callable[[Any], None]:
    import tensorflow as tf

    fused = has_fused(trace)

    def set_up(converter: Any) -> None:
        converter.exclude_conversion_metadata = True  # to add it, Python would read and write the file once more
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.allow_custom_ops = fused  # what they stand in for comes out as one, and is replaced

    return set_up


def _read_once(converter: Any) -> None:
    """Let a large file stay as the converter wrote it: Python would read and write it again to drop repeated constants.

    Where constants are repeated that does happen.
    """

    def lighter(optimize: Callable[[bytes], bytes], content: bytes) -> bytes:
        large = len(content) >= LARGE and _repeated(content) <= MOST_REPEATED * len(content)
        return content if large else optimize(content)

    around_last_pass(converter, lighter)


def _repeated(content: bytes) -> int:
    """Return how many bytes of a file's constants stand there more than once."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(content, 0)
    buffers = (model.Buffers(place) for place in range(model.BuffersLength()))
    found: dict[int, list[Any]] = {}
    for values in (buffer.DataAsNumpy() for buffer in buffers if buffer.DataLength()):
        found.setdefault(len(values), []).append(values)
    groups = [(size, group) for size, group in found.items() if len(group) > 1]
    return sum(size * (len(group) - len({hashlib.sha256(x).digest() for x in group})) for size, group in groups)


def _explain(trace: Trace, error: Exception) -> Exception:
    if out_of_memory(error):
        return memory_error(f"convert model {trace.name!r} to TFLite", error)
    message = str(error)
    if "TensorList" in message and trace.dynamic_batch:
        return ValueError(
            "Expected a fixed batch: TFLite has no recurrent layer (LSTM, GRU, ...) over a batch of free "
            f"size. Received: model {trace.name!r} with batch_size=None. Export with batch_size=1."
        )
    needed = _unsupported(message)
    if not needed:
        return ValueError(
            f"Expected a model that the TFLite converter can convert. Received: {blamed(trace, message)}, on which it "
            f"failed: {told(message)}. Export to .onnx, or write that part with other operations."
        )
    operators = [name.removeprefix("Flex") for name in needed]
    return ValueError(
        f"Expected operators that every TFLite interpreter has. Received: {named(trace, operators)}, which needs "
        f"{', '.join(needed)}: only an interpreter that was built with these runs it. Write that part with other "
        "operations, or move it out of the model: preprocessing into the tf.data pipeline"
        f"{'; or export to .onnx' if onnx_has(operators) else ''}."
    )


def _unsupported(message: str) -> list[str]:
    """Return the operators that a converter's message names, as the interpreter would call them."""
    names = []
    for kind, prefix in (("TF Select ops", "Flex"), ("Custom ops", "")):
        for found in re.findall(rf"{kind}: ([\w, .]+)", message):
            names += [prefix + name.strip() for name in found.split(",") if name.strip()]
    if not names:
        names = [f"Flex{name}" for name in re.findall(r"failed to legalize operation 'tf\.(\w+)'", message)]
    return sorted(set(names))


def _in_model_order(trace: Trace, content: bytes) -> bytes:
    """Give the graph's inputs and outputs the model's order: a SavedModel sorts them by name."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(content, 0)
    signature = next(
        model.SignatureDefs(i)
        for i in range(model.SignatureDefsLength())
        if model.SignatureDefs(i).SignatureKey() == SIGNATURE.encode()
    )
    graph = model.Subgraphs(signature.SubgraphIndex())
    changed: dict[int, bytes] = {}  # by their place in the file
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    for vector, count, entry, names in (
        (graph.InputsAsNumpy(), signature.InputsLength(), signature.Inputs, trace.inputs),
        (graph.OutputsAsNumpy(), signature.OutputsLength(), signature.Outputs, trace.outputs),
    ):
        index = {entry(i).Name().decode(): entry(i).TensorIndex() for i in range(count)}
        if len(vector) == len(names) and set(index) == set(names):
            ordered = np.array([index[name] for name in names], vector.dtype)
            if (ordered != vector).any():
                changed[vector.__array_interface__["data"][0] - start] = ordered.tobytes()
    if not changed:
        return content
    pieces: list[Any] = []
    done = 0
    for place, part in sorted(changed.items()):
        pieces += [memoryview(content)[done:place], part]
        done = place + len(part)
    return b"".join([*pieces, memoryview(content)[done:]])
