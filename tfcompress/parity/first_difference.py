"""Prove that a file is the model; where it isn't, say which layer and operation of it computes something else."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.error_messages import told
from tfcompress.core.uneven_rows import cut, is_uneven
from tfcompress.data.named_inputs import TensorInfo, count_samples
from tfcompress.parity.proof import verify
from tfcompress.parity.reference import reference
from tfcompress.parity.tolerance import Parity, ParityError
from tfcompress.runtime.opening import open_runner
from tfcompress.runtime.runner import Runner, RuntimeRefusal
from tfcompress.tracing.function_graph import captured_by, function_of
from tfcompress.tracing.trace import Trace
from tfcompress.tracing.unsupported_operators import blamed, layer_of, named

Convert = Callable[[Trace, pathlib.Path], None]
"""Writes the file of a trace."""

ALMOST = 1e-3
"""Part of the largest value by which a tensor may differ that isn't the wrong one."""

NUMBERS = ("float32", "int64", "int32", "int16", "int8", "uint8", "bool")
"""Tensors that a file can give."""

_RANDOM = "Random"
"""In the names of the operations that draw numbers."""

_UNWATCHED = ("Const", "Placeholder", "ReadVariableOp", "Identity", "NoOp", "Shape")


def opened(trace: Trace, path: pathlib.Path, runtime: str | None = None) -> Runner:
    """Load a file that was made from a trace.

    Args:
        trace: that it was made from.
        path: of the file.
        runtime: as for `open_runner`.

    Raises:
        ValueError: the runtime can't load it; the message names the layer, if the runtime's does.
    """
    with _blamed(trace, path):
        return open_runner(path, runtime=runtime)


@contextlib.contextmanager
def _blamed(trace: Trace, path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except RuntimeRefusal as error:
        raise ValueError(
            f"Expected a model whose {path.suffix} file its runtime can run. Received: "
            f"{blamed(trace, str(error.reason))}, on which it failed: {told(error.reason)}. Write that part with other "
            f"operations, or export to {'.tflite' if path.suffix == '.onnx' else '.onnx'}."
        ) from error


def prove(
    model: keras.Model, trace: Trace, runner: Runner, convert: Convert, *, precision: str, data: Any, deployment: Any
) -> Parity:
    """Run a file and its Keras model on the same data, and compare (see `verify`).

    Args:
        model: what the file must compute.
        trace: that the file was made from.
        runner: the file, opened.
        convert: writes such a file of a trace; to look for what is wrong.
        precision: of the file.
        data: to compare on; None: random inputs.
        deployment: of a quantized model; None: a float one.

    Returns:
        The differences, all within tolerance.

    Raises:
        ParityError: an output differs by more; the message says where that begins, if it can be found.
        ValueError: the runtime can't run the file.
    """
    try:
        with _blamed(trace, runner.path):
            return verify(model, trace, runner, precision, data, deployment)
    except ParityError as error:
        floats = deployment is None or deployment.scheme is None
        why = _why(model, trace, error, convert if floats else None, runner.path.suffix)
        if not why:
            raise
        raise ParityError(f"{why} {error}") from error


def _why(model: keras.Model, trace: Trace, error: ParityError, convert: Convert | None, suffix: str) -> str:
    """Return what is to be said about a wrong file, as a sentence; "" where nothing was found."""
    inputs = error.inputs
    if inputs is None:
        return ""
    if _draws(model, trace, inputs):
        random = {op.type for op in trace.concrete.graph.get_operations() if _RANDOM in op.type}
        return (
            f"Keras itself gives other outputs for the same inputs each time: {named(trace, random)} draws random "
            "numbers in inference. Draw them in training alone, or let them be an input of the model."
        )
    batch = None if is_uneven(inputs.values()) else _fixed_batch(trace)
    if batch is not None and _mixes(model, trace, inputs, batch):
        return (
            f"The outputs for a sample depend on the others of its batch, as with statistics over the batch: Keras "
            f"computes something else with {batch} at once, as this file takes them. Export with batch_size=n, as many "
            "as are run at once."
        )
    if convert is not None:
        try:
            found = _first_wrong(trace, convert, inputs, suffix)
        except Exception:  # the search is a help: what it fails on is no news
            found = None
        return f"The first difference is at {found}." if found else ""
    return ""


def _draws(model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray]) -> bool:
    first, second = (reference(model, trace, inputs) for _ in range(2))
    return any(x.shape != second[name].shape or not _alike(x, second[name]) for name, x in first.items())


def _fixed_batch(trace: Trace) -> int | None:
    return next((spec.shape[0] for spec in trace.inputs.values() if spec.shape and spec.shape[0]), None)


def _mixes(model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray], batch: int) -> bool:
    """Return whether Keras gives other outputs when it gets no more samples at once than the file does."""
    samples = count_samples(inputs)
    if samples <= batch:
        return False
    together = reference(model, trace, inputs)
    pieces = [reference(model, trace, few) for few in cut(inputs, batch) if count_samples(few) == batch]
    for name, whole in together.items():
        parts = np.concatenate([np.atleast_1d(piece[name]) for piece in pieces])
        if parts.shape != whole[: len(parts)].shape if whole.ndim else True:
            return True
        if not _alike(whole[: len(parts)], parts):
            return True
    return False


def _alike(expected: np.ndarray, received: np.ndarray) -> bool:
    if expected.dtype.kind != "f":
        return bool(np.array_equal(expected, received))
    largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    return bool(np.allclose(expected, received, rtol=0, atol=ALMOST * largest + 1e-6, equal_nan=True))


def _first_wrong(trace: Trace, convert: Convert, inputs: Mapping[str, np.ndarray], suffix: str) -> str | None:
    """Return the layer, and if it can be seen the operation, whose output is the first that the file has wrong."""
    order = list(_in_order(trace))
    ends = {layer_of(op, trace.layers): op for op in order if _is_number(op)}
    layers = [op for op in order if ends.get(layer_of(op, trace.layers)) is op]
    wrong = _wrong(trace, convert, inputs, layers, suffix)
    if wrong is None:
        return None
    layer = layer_of(wrong, trace.layers)
    inner = [op for op in order if layer_of(op, trace.layers) == layer and _is_number(op)]
    op = _wrong(trace, convert, inputs, inner, suffix)
    kind = f"operation {(op or wrong).type!r}" if op is not None or len(inner) == 1 else "an operation"
    return f"{kind} of layer {layer!r}" if layer is not None else f"operation {wrong.name!r} ({wrong.type})"


def _is_number(op: Any) -> bool:
    return op.type not in _UNWATCHED and len(op.outputs) > 0 and op.outputs[0].dtype.name in NUMBERS


def _in_order(trace: Trace) -> Iterator[Any]:
    """Yield the operations that the outputs need, each behind those before it."""
    seen: set[str] = set()
    stack = [(trace.concrete.structured_outputs[name].op, False) for name in trace.outputs]
    while stack:
        op, done = stack.pop()
        if done:
            yield op
        elif op.name not in seen:
            seen.add(op.name)
            stack.append((op, True))
            stack += [(x.op, False) for x in op.inputs]


def _wrong(
    trace: Trace, convert: Convert, inputs: Mapping[str, np.ndarray], watched: Sequence[Any], suffix: str
) -> Any | None:
    """Return the first of some operations whose output a file that gives them all has wrong."""
    import tensorflow as tf

    if not watched:
        return None
    count = len(trace.inputs)
    names = {f"watched_{place}": op.outputs[0].name for place, op in enumerate(watched)}
    arguments = {x.name: tf.TensorSpec(x.shape, x.dtype, name=x.op.name) for x in trace.concrete.inputs[:count]}
    graph = trace.concrete.graph.as_graph_def()
    # A name of its own for each: the same tensor may be an output twice.
    concrete = function_of(graph, arguments, captured_by(trace.concrete, count), names)
    outputs = {name: _info(op.outputs[0]) for name, op in zip(names, watched, strict=True)}
    given = next(cut(inputs, _fixed_batch(trace) or count_samples(inputs)))
    expected = concrete(**{spec.name: tf.constant(given[name]) for name, spec in _arguments(concrete, trace)})
    with tempfile.TemporaryDirectory(prefix="tfcompress-") as folder:
        path = pathlib.Path(folder, f"watched{suffix}")
        convert(dataclasses.replace(trace, concrete=concrete, outputs=outputs), path)
        received = open_runner(path).run(given)
    for name, op in zip(names, watched, strict=True):
        value = expected[name].numpy()
        if value.shape != received[name].shape or not _alike(value, received[name]):
            return op
    return None


def _info(tensor: Any) -> TensorInfo:
    shape = tensor.shape.as_list() if tensor.shape.rank is not None else []
    return TensorInfo(tuple(shape), tensor.dtype.name)


def _arguments(concrete: Any, trace: Trace) -> Iterator[tuple[str, Any]]:
    specs = {spec.name: spec for spec in concrete.structured_input_signature[0]}
    for name in trace.inputs:
        yield name, specs[name]
