"""What counts as the same output: of a float file within float's rounding, of an integer one within its own."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfcompress.core.old_calls import accepts_old_fields

RELATIVE_TOLERANCE = {"float32": 1e-4, "float16": 2e-2}
"""Largest difference allowed, as a part of the largest |reference| of the output."""

ABSOLUTE_FLOOR = {"float32": 1e-6, "float16": 1e-5}
"""Difference that is always allowed: outputs that are all but zero have no scale."""

LARGEST_DISAGREEMENT = {"float32": 0.01, "float16": 0.1}
"""Part of the entries of an integer output (an argmax) that may differ."""

STEPS = 2.0
"""Steps of its grid by which each value of a quantized output may always differ."""

TYPICAL_STEPS = 0.75
"""The same of their root mean square: most values are equal, or differ by one step."""

TIMES_NOISE = 2.0
"""A file may differ from the model by that times the model's own change when near-ties round the other way, or when
inputs are rounded to 8 bits that kernels of the file round at run time.

A right file differs by 0.7 to 1.3 times that (measured on trained and on random nets of 4 to 60 layers, both formats).
"""

LARGEST_TIMES_NOISE = 4.0
"""The same of the largest difference, which varies more from one run to another."""

QUANTIZED_DISAGREEMENT = 0.05
"""Part of the entries of an integer output of a quantized model that may always differ, and two entries in any case:
values that are equal on the grid are ties."""


class ParityError(ValueError):
    """The file that was written doesn't compute what the Keras model computes.

    Attributes:
        inputs: {name: array} on which that was seen, if they are known.
    """

    inputs: Mapping[str, np.ndarray] | None = None


@accepts_old_fields(step="scale")
@dataclasses.dataclass(frozen=True)
class OutputParity:
    """How close one output of the file is to Keras.

    Attributes:
        max_abs: largest absolute difference.
        max_rel: that, as a part of the largest |reference|.
        tolerance: the largest absolute difference that was allowed.
        argmax_agreement: part of the rows (along the last axis) whose largest entry is the same one.
        non_finite: entries that are NaN or infinite in Keras, and in the file alike.
        scale: of the output's quantization; None where it is float.
        max_steps: largest difference in scales, the steps from one integer to the next.
        mean_steps: mean difference in such steps.
        equal: part of the values that are the same: on a grid the same integer.
        sqnr: variance of the reference over the mean squared difference, in dB; None if nothing differs.
        noise: root mean square of the quantized model's own change when near-ties round the other way, or inputs are
            rounded that the file rounds at run time, which `tolerance` follows from; None: not measured, since the file
            differs by no more than is always allowed.
    """

    max_abs: float
    max_rel: float
    tolerance: float
    argmax_agreement: float
    non_finite: int = 0
    scale: float | None = None
    max_steps: float | None = None
    mean_steps: float | None = None
    equal: float | None = None
    sqnr: float | None = None
    noise: float | None = None


@dataclasses.dataclass(frozen=True)
class Parity:
    """How close a file is to Keras.

    Attributes:
        samples: how many were compared.
        outputs: {name: OutputParity}.
        about: what the samples were, in words.
    """

    samples: int
    outputs: dict[str, OutputParity]
    about: str = ""

    def __str__(self) -> str:
        return f"{self.samples} sample{'s' * (self.samples != 1)}{_joined(self.about)}"


def _joined(about: str) -> str:
    """Return words that go on after "samples".

    >>> _joined("drawn from a range"), _joined("noise"), _joined("x: noise; y: ids")
    (' drawn from a range', ' of noise', '; x: noise; y: ids')
    """
    if not about or about.startswith("drawn"):
        return " " * bool(about) + about
    return f"; {about}" if "; " in about else f" of {about}"


def compare(
    expected: Mapping[str, np.ndarray],
    received: Mapping[str, np.ndarray],
    precision: str = "float32",
    scales: Mapping[str, float | None] | None = None,
    alike: Sequence[Mapping[str, np.ndarray]] = (),
) -> dict[str, OutputParity]:
    """Compare outputs by name.

    Args:
        expected: {name: array}, of Keras.
        received: {name: array}, of the file.
        precision: of the file; it sets the tolerance of what isn't quantized.
        scales: {name: scale of the output's quantization, None where it has none}; None: a float file.
        alike: {name: array}, what a quantized model gives when near-ties round the other way. How far that is from
            `expected` says what a difference means: in a deep net one step early on may be many at the end.

    Returns:
        {name: OutputParity}.

    Raises:
        ParityError: an output differs by more than is allowed, has another shape, or is missing. All outputs that
            differ are in the message.

    Example:
        >>> import numpy as np
        >>> one = np.array([[1.0, 2.0]])
        >>> compare({"out": one}, {"out": one + 1e-5})["out"].argmax_agreement
        1.0
        >>> compare({"out": one}, {"out": one + 0.5}, scales={"out": 0.5})["out"].max_steps
        1.0
    """
    if set(expected) != set(received):
        raise ParityError(f"Expected the outputs {list(expected)}. Received: {list(received)}.")
    results: dict[str, OutputParity] = {}
    failures = []
    for name, reference in expected.items():
        scale = (scales or {}).get(name)
        others = [np.asarray(other[name]) for other in alike]
        problem, results[name] = _compare_one(
            np.asarray(reference), np.asarray(received[name]), precision, scale, others
        )
        if problem:
            failures.append(f"output {name!r}: {problem}")
    if failures:
        raise ParityError(
            f"Expected the file to compute what the Keras model computes. Received: {'; '.join(failures)}. "
            "Nothing was written. Give data of your own with verify=x if random inputs don't suit the model."
        )
    for name, result in results.items():
        _warn(name, result, np.asarray(expected[name]))
    return results


def _warn(name: str, result: OutputParity, reference: np.ndarray) -> None:
    if result.non_finite:
        warnings.warn(
            f"Output {name!r} of the Keras model itself has {result.non_finite} entries that are NaN or "
            "infinite (so has the file). Check the weights, or verify with data of your own: verify=x.",
            stacklevel=4,
        )
    elif result.noise and result.noise > STEPS * (result.scale or 0.0) and result.noise > 0.7 * reference.std():
        warnings.warn(
            f"Output {name!r} of the Keras model itself changes by {result.noise:.3g} (it varies by "
            f"{reference.std():.3g}) when near-ties round the other way, so comparing it says little. Verify "
            "with data of your own: verify=x.",
            stacklevel=4,
        )


def _compare_one(
    reference: np.ndarray, value: np.ndarray, precision: str, scale: float | None, alike: Sequence[np.ndarray]
) -> tuple[str, OutputParity]:
    if reference.shape != value.shape:
        nothing = OutputParity(np.inf, np.inf, 0.0, 0.0, scale=scale)
        return f"expected shape {reference.shape}, received {value.shape}", nothing
    if reference.dtype.kind in "iub":
        return _compare_whole(reference, value, precision, alike)
    reference, value = reference.astype(np.float64), value.astype(np.float64)
    finite = np.isfinite(reference)
    # Equal NaNs and equal infinities count as equal: the file has to be wrong where the model is.
    strange = ~finite & ~((np.isnan(reference) & np.isnan(value)) | (reference == value))
    strange |= finite & ~np.isfinite(value)
    difference = _difference(reference, value)
    largest = float(np.abs(reference[finite]).max(initial=0.0))
    allowed = RELATIVE_TOLERANCE[precision] * largest + ABSOLUTE_FLOOR[precision]
    allowed_typical = np.inf
    noise = None
    if scale is not None or alike:
        others = [_difference(reference, other.astype(np.float64)) for other in alike]
        noise = max((_rms(other) for other in others), default=0.0)
        spread = max((float(other.max(initial=0.0)) for other in others), default=0.0)
        # Half a percent more, since the scales of the file are rounded to float32 otherwise.
        allowed_typical = TYPICAL_STEPS * scale if scale is not None else allowed
        allowed_typical += TIMES_NOISE * noise
        allowed = max(allowed, 1.005 * STEPS * (scale or 0.0)) + LARGEST_TIMES_NOISE * spread
    result = _figures(reference, value, difference, allowed, scale=scale, noise=noise if alike else None)
    if strange.any():
        at = tuple(int(i) for i in np.argwhere(strange)[0])
        problem = f"expected {reference[at]} at {at}, received {value[at]}, and {strange.sum()} such entries"
        if result.non_finite:
            problem += f" (the Keras model itself gives {result.non_finite} NaN or infinite entries)"
        return problem, result
    if result.max_abs <= allowed and (_rms(difference) <= allowed_typical or result.max_abs <= STEPS * (scale or 0)):
        return "", result
    at = tuple(int(i) for i in np.unravel_index(difference.argmax(), difference.shape))
    found = f"expected {reference[at]:.6g} at {at}, received {value[at]:.6g}: differs by {result.max_abs:.3g}"
    agrees = f"the argmax agrees in {result.argmax_agreement:.0%}"
    if noise is None:
        return f"{found}, {allowed:.3g} is allowed, {agrees}", result
    steps = "" if result.max_steps is None else f" ({result.max_steps:.1f} steps)"
    return (
        f"{found}{steps}, RMS {_rms(difference):.3g}; {allowed:.3g} and RMS {allowed_typical:.3g} are allowed, "
        f"since the model itself changes by {noise:.3g} where values are rounded as the file may; {agrees}"
    ), result


def _figures(
    reference: np.ndarray,
    value: np.ndarray,
    difference: np.ndarray,
    allowed: float,
    *,
    scale: float | None,
    noise: float | None,
) -> OutputParity:
    finite = np.isfinite(reference)
    largest = float(np.abs(reference[finite]).max(initial=0.0))
    max_abs = float(difference.max(initial=0.0))
    return OutputParity(
        max_abs,
        max_abs / largest if largest else max_abs,
        float(allowed),
        argmax_agreement(reference, value),
        int((~finite).sum()),
        scale,
        max_abs / scale if scale else None,
        float(difference.mean()) / scale if scale and difference.size else None,
        float((difference < scale / 2 if scale else difference == 0).mean()) if difference.size else 1.0,
        _sqnr(reference[finite], difference[finite]),
        noise,
    )


def _compare_whole(
    reference: np.ndarray, value: np.ndarray, precision: str, alike: Sequence[np.ndarray]
) -> tuple[str, OutputParity]:
    unequal = float((reference != value).mean()) if reference.size else 0.0
    difference = np.abs(reference.astype(np.int64) - value.astype(np.int64))
    largest = float(np.abs(reference.astype(np.int64)).max(initial=0))
    max_abs = float(difference.max(initial=0))
    noise, allowed = None, LARGEST_DISAGREEMENT[precision]
    if alike and reference.size:
        noise = max(float((reference != other).mean()) for other in alike)
        allowed = max(QUANTIZED_DISAGREEMENT, 2 / reference.size, TIMES_NOISE * noise)
    result = OutputParity(max_abs, max_abs / (largest or 1.0), 0.0, 1.0 - unequal, equal=1.0 - unequal)
    if unequal > allowed:
        return f"expected whole numbers, received {unequal:.0%} other ones", result
    return "", result


def _difference(reference: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return the absolute differences, 0 where either isn't finite."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(reference) & np.isfinite(value), np.abs(reference - value), 0.0)


def _rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(difference)))) if difference.size else 0.0


def _sqnr(reference: np.ndarray, difference: np.ndarray) -> float | None:
    return decibels(float(reference.var()), float(np.mean(np.square(difference)))) if reference.size else None


def decibels(signal: float, noise: float) -> float | None:
    """Return the ratio of two powers in dB; None where there is no noise.

    >>> decibels(100.0, 1.0), decibels(1.0, 0.0)
    (20.0, None)
    """
    if not noise:
        return None
    return 10 * math.log10(signal / noise) if signal else -math.inf


def argmax_agreement(reference: Any, value: Any) -> float:
    """Return the part of the rows (along the last axis) whose largest entry is the same one."""
    if not reference.ndim or not reference.size:
        return 1.0
    return float((reference.argmax(-1) == value.argmax(-1)).mean())
