"""Proof that a file is the model: run it in its real runtime, and compare with Keras."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfcompress.export.inputs import TensorInfo, count_samples, fit_inputs
from tfcompress.export.integers import held, io_grids, predict
from tfcompress.export.parity import OutputParity, Parity, ParityError, compare
from tfcompress.export.runtime import DEFAULT_BATCH_SIZE, Runner
from tfcompress.export.tracing import Trace
from tfcompress.export.view import float32_view
from tfcompress.quantization.quantizers import ActivationQuantizer, activation_quantizers
from tfcompress.surgery.inputs import has_graph, vocabulary
from tfcompress.surgery.walking import calls

if TYPE_CHECKING:
    from tfcompress.export.deployment import Deployment

__all__ = ["OutputParity", "Parity", "ParityError", "compare", "random_inputs", "verify"]

FREE_SIZES = (32, 64, 128, 8)
"""Sizes to try for free dimensions beyond the batch: the first at which Keras itself can run the model."""

SAMPLES, QUANTIZED_SAMPLES = 2, 4
"""Samples that are generated: of a quantized model more, since the comparison is one of statistics."""

SHIFT = 1 / 8
"""By how much of a step the ends of all ranges move to let roundings fall otherwise: about 3 % of them then do, as
they do in a file, whose kernels round after sums in integers."""


def verify(  # noqa: PLR0917
    model: keras.Model,
    trace: Trace,
    runner: Runner,
    precision: str,
    data: Any = None,
    deployment: Deployment | None = None,
) -> Parity:
    """Run a file and its Keras model on the same data, and compare.

    A float file must compute the same within float's rounding. In an integer one roundings fall otherwise than in
    Keras, and in a deep net one step early on may become many; so what is allowed follows from how far the model's
    own outputs move when its roundings fall otherwise (see `parity.TIMES_NOISE`).

    Args:
        model: what the file must compute; its float32 view is the reference.
        trace: that the file was made from.
        runner: the file, opened.
        precision: "float32" or "float16", the file's.
        data: an array, a list or a dict by input name; None: seeded random inputs, uniform in the range of an
            input that has one.
        deployment: of a quantized model; None: a float one.

    Returns:
        The differences, all within tolerance.

    Raises:
        ParityError: an output differs by more, has another shape, or is missing.
        ValueError: `data` doesn't fit the model, or Keras can't run the model on what was generated.
    """
    scheme = deployment.scheme if deployment is not None else None
    rounds = scheme is not None and scheme.activations is not None
    if data is not None:
        inputs = fit_inputs(data, trace.inputs)
        expected = None
    else:
        ranges = dict(zip(trace.inputs, input_ranges(model), strict=True)) if rounds else {}
        inputs, expected = _generated(model, trace, ranges, QUANTIZED_SAMPLES if rounds else SAMPLES)
    if io_grids(runner):  # what an integer input can't hold, no output can show
        inputs, expected = held(runner, inputs), None
    if expected is None:
        expected = _reference(model, trace, inputs)
    received = predict(runner, inputs)
    if not isinstance(received, Mapping):
        received = {runner.output_names[0]: received}
    steps, alike = None, []
    if deployment is not None and rounds:
        # By position: the names of a file's outputs are the keys of a dict that the model returns.
        steps = dict(zip(trace.outputs, deployment.steps.values(), strict=True))
        alike = _alike(model, trace, inputs, deployment)
    return Parity(count_samples(inputs), compare(expected, received, precision, steps, alike))


def input_ranges(model: keras.Model) -> list[tuple[float, float] | None]:
    """Return the range of the quantizer that reads each input of a model, in their order; None where none does."""
    if not has_graph(model):
        return [None] * len(model.inputs)
    found = {
        id(call.inputs[0]): call.operation.range
        for call in calls(model)
        if isinstance(call.operation, ActivationQuantizer) and not call.operation.spec.dynamic
    }
    return [found.get(id(x)) for x in model.inputs]


def _alike(
    model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray], deployment: Deployment
) -> list[dict[str, np.ndarray]]:
    """Return what the model gives when its roundings fall otherwise."""
    if deployment.scheme is not None and deployment.scheme.activations == "dynamic":
        # A runtime finds the range of a whole tensor, not of each sample, and puts zero elsewhere: the error is
        # another, of about the size of that of rounding at all.
        made = []
        for bits in (deployment.scheme.activation_bits - 1, 16):
            with _dynamic_bits(model, bits):
                made.append(_reference(model, trace, inputs))
        return made
    learned = [quantizer for quantizer in activation_quantizers(model) if quantizer.learns]
    made = []
    for sign in (1, -1):
        state = []
        for quantizer in learned:
            factor = 1 + sign * SHIFT * 2.0 ** (1 - quantizer.spec.bits)
            state.append((quantizer.ends, quantizer.ends.value * factor))
        made.append(_reference(model, trace, inputs, state))
    return made


@contextlib.contextmanager
def _dynamic_bits(model: keras.Model, bits: int) -> Iterator[None]:
    """Let the quantizers that find their range at run time have other bits for the time of the block."""
    with contextlib.ExitStack() as undo:
        for quantizer in activation_quantizers(model):
            if quantizer.spec.dynamic:
                undo.callback(object.__setattr__, quantizer, "spec", quantizer.spec)
                object.__setattr__(quantizer, "spec", dataclasses.replace(quantizer.spec, bits=bits))
        yield


def _generated(
    model: keras.Model, trace: Trace, ranges: Mapping[str, tuple[float, float] | None], samples: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    words = vocabulary(model)
    free = any(size is None for spec in trace.inputs.values() for size in spec.shape[1:])
    problems = []
    for size in FREE_SIZES if free else FREE_SIZES[:1]:
        inputs = random_inputs(trace.inputs, trace.integral, words, size, samples=samples, ranges=ranges)
        try:
            return inputs, _reference(model, trace, inputs)
        except Exception as error:  # whatever the model raises on a size that it can't take
            problems.append((_shapes(inputs), error))
    shapes, first = problems[0]
    raise ValueError(
        f"Expected a model that runs on random inputs of {shapes}. Received: {model.name!r}, which failed: "
        f"{first}. Give data of your own with verify=x."
    ) from first


def random_inputs(
    specs: Mapping[str, TensorInfo],
    integral: Iterable[str] = (),
    vocabulary: int = 2,
    free_size: int = FREE_SIZES[0],
    *,
    samples: int = SAMPLES,
    ranges: Mapping[str, tuple[float, float] | None] | None = None,
) -> dict[str, np.ndarray]:
    """Make seeded inputs: floats standard normal, whole numbers in [0, vocabulary), booleans even.

    Args:
        specs: {input name: TensorInfo}.
        integral: inputs of a floating dtype that hold whole numbers.
        vocabulary: one more than the largest whole number.
        free_size: of free dimensions beyond the batch.
        samples: where the batch is free, or fixed at less.
        ranges: {input name: (lowest, highest)}: floats are uniform in it; None: standard normal.

    Returns:
        {input name: array}.

    >>> random_inputs({"x": TensorInfo((None, 3), "int32")}, vocabulary=5)["x"].shape
    (2, 3)
    """
    random = np.random.default_rng(0)
    samples = max([samples, *(spec.shape[0] or 0 for spec in specs.values() if spec.shape)])
    made = {}
    for name, spec in specs.items():
        shape = (samples, *(free_size if size is None else size for size in spec.shape[1:])) if spec.shape else ()
        dtype = np.dtype(spec.dtype)
        span = (ranges or {}).get(name)
        if dtype.kind == "b":
            made[name] = random.random(shape) < 0.5
        elif dtype.kind in "iu" or name in integral:
            made[name] = random.integers(0, min(vocabulary, _largest(dtype)), shape).astype(dtype)
        elif span is not None:
            made[name] = random.uniform(*span, shape).astype(dtype)
        else:
            made[name] = random.standard_normal(shape).astype(dtype)
    return made


def _largest(dtype: np.dtype[Any]) -> int:
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else 2**24


def _reference(
    model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray], state: Sequence[tuple[Any, Any]] = ()
) -> dict[str, np.ndarray]:
    """Return the outputs of Keras, some variables having other values (`state`) for the time being."""
    samples = count_samples(inputs)
    fixed = next((spec.shape[0] for spec in trace.inputs.values() if spec.shape and spec.shape[0]), None)
    step = DEFAULT_BATCH_SIZE if fixed is None or fixed == 1 else fixed
    pieces = []
    for start in range(0, samples, step):
        batch = [array[start : start + step] if array.ndim else array for array in inputs.values()]
        tensors = [keras.ops.convert_to_tensor(array) for array in batch]
        with float32_view(model), keras.StatelessScope(state_mapping=list(state)):
            outputs = trace.signature.call(model, tensors)
        pieces.append({name: keras.ops.convert_to_numpy(outputs[name]) for name in trace.outputs})
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in trace.outputs}


def _shapes(inputs: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in inputs.items()}
