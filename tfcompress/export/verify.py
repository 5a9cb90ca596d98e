"""Proof that a file is the model: run it in its real runtime, and compare with Keras."""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.export.inputs import TensorInfo, count_samples, fit_inputs
from tfcompress.export.runtime import DEFAULT_BATCH_SIZE, Runner
from tfcompress.export.tracing import Trace
from tfcompress.export.view import float32_view
from tfcompress.surgery.inputs import vocabulary

RELATIVE_TOLERANCE = {"float32": 1e-4, "float16": 2e-2}
"""Largest difference allowed, as a part of the largest |reference| of the output."""

ABSOLUTE_FLOOR = {"float32": 1e-6, "float16": 1e-5}
"""Difference that is always allowed: outputs that are all but zero have no scale."""

LARGEST_DISAGREEMENT = {"float32": 0.01, "float16": 0.1}
"""Part of the entries of an integer output (an argmax) that may differ."""

FREE_SIZES = (32, 64, 128, 8)
"""Sizes to try for free dimensions beyond the batch: the first at which Keras itself can run the model."""


class ParityError(ValueError):
    """The file that was written doesn't compute what the Keras model computes."""


@dataclasses.dataclass(frozen=True)
class OutputParity:
    """How close one output of the file is to Keras.

    Attributes:
        max_abs: largest absolute difference.
        max_rel: that, as a part of the largest |reference|.
        tolerance: the largest absolute difference that was allowed.
        argmax_agreement: part of the rows (along the last axis) whose largest entry is the same one.
        non_finite: entries that are NaN or infinite in Keras, and in the file alike.
    """

    max_abs: float
    max_rel: float
    tolerance: float
    argmax_agreement: float
    non_finite: int = 0


@dataclasses.dataclass(frozen=True)
class Parity:
    """How close a file is to Keras, over `samples` samples, for every output."""

    samples: int
    outputs: dict[str, OutputParity]


def verify(model: keras.Model, trace: Trace, runner: Runner, precision: str, data: Any = None) -> Parity:
    """Run a file and its Keras model on the same data, and compare.

    Args:
        model: what the file must compute; its float32 view is the reference.
        trace: that the file was made from.
        runner: the file, opened.
        precision: "float32" or "float16", the file's.
        data: an array, a list or a dict by input name; None: seeded random inputs.

    Returns:
        The differences, all within tolerance.

    Raises:
        ParityError: an output differs by more, has another shape, or is missing.
        ValueError: `data` doesn't fit the model, or Keras can't run the model on what was generated.
    """
    if data is not None:
        inputs = fit_inputs(data, trace.inputs)
        expected = _reference(model, trace, inputs)
    else:
        inputs, expected = _generated(model, trace)
    received = runner.predict(inputs)
    if not isinstance(received, Mapping):
        received = {runner.output_names[0]: received}
    return Parity(count_samples(inputs), compare(expected, received, precision))


def compare(
    expected: Mapping[str, np.ndarray], received: Mapping[str, np.ndarray], precision: str = "float32"
) -> dict[str, OutputParity]:
    """Compare outputs by name.

    Args:
        expected: {name: array}, of Keras.
        received: {name: array}, of the file.
        precision: of the file; it sets the tolerance.

    Returns:
        {name: OutputParity}.

    Raises:
        ParityError: see `verify`. All outputs that differ are in the message.

    Example:
        >>> import numpy as np
        >>> one = np.array([[1.0, 2.0]])
        >>> compare({"out": one}, {"out": one + 1e-5})["out"].argmax_agreement
        1.0
    """
    if set(expected) != set(received):
        raise ParityError(f"Expected the outputs {list(expected)}. Received: {list(received)}.")
    results: dict[str, OutputParity] = {}
    failures = []
    for name, reference in expected.items():
        problem, results[name] = _compare_one(np.asarray(reference), np.asarray(received[name]), precision)
        if problem:
            failures.append(f"output {name!r}: {problem}")
    if failures:
        raise ParityError(
            f"Expected the file to compute what the Keras model computes. Received: {'; '.join(failures)}. "
            "Nothing was written. Give data of your own with verify=x if random inputs don't suit the model."
        )
    for name, result in results.items():
        if result.non_finite:
            warnings.warn(
                f"Output {name!r} of the Keras model itself has {result.non_finite} entries that are NaN or "
                "infinite (so has the file). Check the weights, or verify with data of your own: verify=x.",
                stacklevel=2,
            )
    return results


def _compare_one(reference: np.ndarray, value: np.ndarray, precision: str) -> tuple[str, OutputParity]:
    nothing = OutputParity(np.inf, np.inf, 0.0, 0.0)
    if reference.shape != value.shape:
        return f"expected shape {reference.shape}, received {value.shape}", nothing
    if reference.dtype.kind in "iub":
        return _compare_whole(reference, value, precision)
    reference, value = reference.astype(np.float64), value.astype(np.float64)
    finite = np.isfinite(reference)
    # Equal NaNs and equal infinities count as equal: the file has to be wrong where the model is.
    strange = ~finite & ~((np.isnan(reference) & np.isnan(value)) | (reference == value))
    strange |= finite & ~np.isfinite(value)
    with np.errstate(invalid="ignore"):
        difference = np.where(finite & np.isfinite(value), np.abs(reference - value), 0.0)
    largest = np.abs(reference[finite]).max(initial=0.0)
    tolerance = RELATIVE_TOLERANCE[precision] * largest + ABSOLUTE_FLOOR[precision]
    max_abs = float(difference.max(initial=0.0))
    result = OutputParity(
        max_abs,
        max_abs / float(largest) if largest else max_abs,
        float(tolerance),
        _argmax_agreement(reference, value),
        int((~finite).sum()),
    )
    if strange.any():
        at = tuple(int(i) for i in np.argwhere(strange)[0])
        problem = f"expected {reference[at]} at {at}, received {value[at]}, and {strange.sum()} such entries"
        if result.non_finite:
            problem += f" (the Keras model itself gives {result.non_finite} NaN or infinite entries)"
        return problem, result
    if max_abs > tolerance:
        at = tuple(int(i) for i in np.unravel_index(difference.argmax(), difference.shape))
        return (
            f"expected {reference[at]:.6g} at {at}, received {value[at]:.6g}: differs by {max_abs:.3g}, "
            f"{tolerance:.3g} is allowed, the argmax agrees in {result.argmax_agreement:.0%}"
        ), result
    return "", result


def _compare_whole(reference: np.ndarray, value: np.ndarray, precision: str) -> tuple[str, OutputParity]:
    unequal = float((reference != value).mean()) if reference.size else 0.0
    difference = np.abs(reference.astype(np.int64) - value.astype(np.int64))
    largest = float(np.abs(reference.astype(np.int64)).max(initial=0))
    max_abs = float(difference.max(initial=0))
    result = OutputParity(max_abs, max_abs / (largest or 1.0), 0.0, 1.0 - unequal)
    if unequal > LARGEST_DISAGREEMENT[precision]:
        return f"expected whole numbers, received {unequal:.0%} other ones", result
    return "", result


def _argmax_agreement(reference: np.ndarray, value: np.ndarray) -> float:
    if not reference.ndim or not reference.size:
        return 1.0
    return float((reference.argmax(-1) == value.argmax(-1)).mean())


def _generated(model: keras.Model, trace: Trace) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    words = vocabulary(model)
    free = any(size is None for spec in trace.inputs.values() for size in spec.shape[1:])
    problems = []
    for size in FREE_SIZES if free else FREE_SIZES[:1]:
        inputs = random_inputs(trace.inputs, trace.integral, words, free_size=size)
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
    samples: int = 2,
) -> dict[str, np.ndarray]:
    """Make seeded inputs: floats standard normal, whole numbers in [0, vocabulary), booleans even.

    Args:
        specs: {input name: TensorInfo}.
        integral: inputs of a floating dtype that hold whole numbers.
        vocabulary: one more than the largest whole number.
        free_size: of free dimensions beyond the batch.
        samples: where the batch is free, or fixed at less.

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
        if dtype.kind == "b":
            made[name] = random.random(shape) < 0.5
        elif dtype.kind in "iu" or name in integral:
            made[name] = random.integers(0, min(vocabulary, _largest(dtype)), shape).astype(dtype)
        else:
            made[name] = random.standard_normal(shape).astype(dtype)
    return made


def _largest(dtype: np.dtype[Any]) -> int:
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else 2**24


def _reference(model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    samples = count_samples(inputs)
    fixed = next((spec.shape[0] for spec in trace.inputs.values() if spec.shape and spec.shape[0]), None)
    step = DEFAULT_BATCH_SIZE if fixed is None or fixed == 1 else fixed
    pieces = []
    for start in range(0, samples, step):
        batch = [array[start : start + step] if array.ndim else array for array in inputs.values()]
        tensors = [keras.ops.convert_to_tensor(array) for array in batch]
        with float32_view(model):
            outputs = trace.signature.call(model, tensors)
        pieces.append({name: keras.ops.convert_to_numpy(outputs[name]) for name in trace.outputs})
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in trace.outputs}


def _shapes(inputs: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in inputs.items()}
