"""How integers are chosen for a kernel from what its inputs are like: the relaxed rounding of AdaRound, or GPTQ's."""

from __future__ import annotations

import abc
import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from tfcompress.core.arguments import check_count, check_number, check_path, did_you_mean, says_fields
from tfcompress.quantization.ptq.kernel_products import ErrorStatistics

STRETCH = (-0.1, 1.1)
"""The sigmoid is stretched to that range and cut off, so that it reaches 0 and 1 (AdaRound, equation 23)."""

WARM = 0.2
"""Share of the steps without regularization, in which the error alone decides."""

POWERS = (20.0, 2.0)
"""The power of the regularization, from after the warm steps to the end."""


@dataclasses.dataclass(frozen=True)
class Rounding(abc.ABC):
    """How the integers of kernels are found after calibration.

    Attributes:
        folder: Where the integers of each layer are kept as soon as they are found: what is called again with the same
            model and data goes on behind the last layer there. `None`: nothing is kept.
    """

    folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.folder is not None:
            object.__setattr__(self, "folder", os.fspath(check_path(self.folder)))

    @abc.abstractmethod
    def integers(
        self, found: ErrorStatistics, scaled: np.ndarray, scale: np.ndarray, ends: tuple[int, int]
    ) -> np.ndarray:
        """Return the integers of a kernel.

        Args:
            found: Of the layer's inputs and outputs.
            scaled: The kernel in units of its scale, as matrices; what is a whole number stays that.
            scale: Of its shape.
            ends: The least and the largest integer.
        """


@says_fields
@dataclasses.dataclass(frozen=True)
class AdaRound(Rounding):
    """Each weight is rounded up or down, whichever makes the least error of the layer's outputs.

    "Up or down? Adaptive rounding for post-training quantization", Nagel et al. 2020, arXiv:2004.10568: a rectified
    sigmoid stands for each choice; Adam lowers the mean squared error of the outputs, with the layers before it rounded
    already, and a regularization whose power falls from 20 to 2 drives each to 0 or 1. Here the error comes from the
    second moments of the layer's inputs, so that each step sees all of the data; the activation behind the layer
    isn't looked at. An output for which rounding to the nearest makes less error keeps that.

    Attributes:
        steps: Of Adam, for each layer.
        learning_rate: Of Adam.
        regularization: What the regularization of one weight counts for beside the error, where the error of rounding
            to the nearest counts as one a weight.

    Example:

    >>> AdaRound(steps=500).learning_rate
    0.01
    """

    steps: int = 2000
    learning_rate: float = 0.01
    regularization: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "steps", check_count("steps", self.steps))
        for name in ("learning_rate", "regularization"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), 0, above=True))

    def integers(
        self, found: ErrorStatistics, scaled: np.ndarray, scale: np.ndarray, ends: tuple[int, int]
    ) -> np.ndarray:
        """Return the integers, each next to `scaled`."""
        nearest = np.clip(np.rint(scaled), *ends)
        pairs, lacking = found.means()[:2]
        used = np.flatnonzero(np.diagonal(pairs, axis1=1, axis2=2).any(axis=0))  # the other inputs are always 0
        if not len(used):
            return nearest
        least = found.error(nearest * scale)
        floor = np.floor(scaled[:, used])
        # Errors of an output in units of that of rounding to the nearest, of one weight.
        unit = np.where(least > 0, scaled.shape[1] / np.maximum(least, 1e-30), 0.0)[:, None]
        choices = _Choices(
            products=_products(pairs[:, used[:, None], used]),
            lacking=np.float32(lacking[:, used]),
            plain=np.float32(found.plain[:, used]),
            scale=np.float32(np.broadcast_to(scale, scaled.shape)[:, used]),
            unit=np.float32(unit),
            floor=np.float32(floor),
            share=np.float32(scaled[:, used] - floor),
            ends=ends,
        )
        chosen = nearest.copy()
        chosen[:, used] = np.clip(floor + choices.made(self), *ends)
        better = found.error(chosen * scale) < least
        return np.where(better[:, None], chosen, nearest)


@dataclasses.dataclass(frozen=True)
class _Choices:
    """Weights of a layer, each between two integers; all in float32, of shape (groups, inputs, outputs).

    Attributes:
        products: Returns an array, each group of it multiplied by the second moments of the group's inputs.
        lacking: What the layers before it make the outputs lack, in the same moments.
        plain: The weights.
        scale: Of their integers.
        unit: Of the error, of shape (groups, 1, outputs).
        floor: The lower integers.
        share: How far the weights are above them.
        ends: The least and the largest integer.
    """

    products: Callable[[np.ndarray], np.ndarray]
    lacking: np.ndarray
    plain: np.ndarray
    scale: np.ndarray
    unit: np.ndarray
    floor: np.ndarray
    share: np.ndarray
    ends: tuple[int, int]

    def made(self, how: AdaRound) -> np.ndarray:
        """Return what is added to the lower integers: 0 or 1."""
        low, high = (np.float32(end) for end in STRETCH)
        logits = -np.log((high - low) / (np.clip(self.share, np.float32(1e-4), np.float32(1 - 1e-4)) - low) - 1)
        first, second = np.zeros_like(logits), np.zeros_like(logits)
        factor = 2 * self.unit * self.scale
        for step in range(how.steps):
            sigmoid = 1 / (1 + np.exp(-logits))
            stretched = sigmoid * (high - low) + low
            up = np.where(self.share > 0, np.clip(stretched, 0, 1), np.float32(0))
            integers = self.floor + up
            change = np.clip(integers, *self.ends) * self.scale - self.plain
            slope = factor * (self.products(change) - self.lacking)
            slope *= (integers >= self.ends[0]) & (integers <= self.ends[1])
            done = (step / how.steps - WARM) / (1 - WARM)
            if done >= 0:
                power = POWERS[1] + (POWERS[0] - POWERS[1]) * 0.5 * (1 + math.cos(math.pi * done))
                away = 2 * up - 1
                slope -= how.regularization * 2 * power * np.sign(away) * np.abs(away) ** (power - 1)
            inside = (stretched > 0) & (stretched < 1)
            slope *= inside * (high - low) * sigmoid * (1 - sigmoid)
            first += 0.1 * (slope - first)
            second += 0.001 * (slope * slope - second)
            rate = how.learning_rate * math.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
            logits -= rate * first / (np.sqrt(second) + 1e-8)
        chosen: np.ndarray = (logits >= 0) & (self.share > 0)
        return chosen


def _products(pairs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that multiplies by matrices, in float32: of few samples' moments, by their factors.

    Args:
        pairs: Second moments, of shape (groups, inputs, inputs).

    >>> x = np.random.default_rng(0).normal(size=(3, 8))
    >>> np.allclose(_products((x.T @ x)[None])(np.eye(8, dtype=np.float32)[None]), x.T @ x, atol=1e-5)
    True
    """
    if len(pairs) == 1:
        from scipy.linalg import lapack

        upper, order, rank, _ = lapack.dpstrf(pairs[0])
        if 2 * rank < len(upper):
            factor = np.float32(np.triu(upper)[:rank, np.argsort(order)])
            return lambda x: (factor.T @ (factor @ x[0]))[None]
    whole = np.float32(pairs)
    return lambda x: whole @ x


@says_fields
@dataclasses.dataclass(frozen=True)
class GPTQ(Rounding):
    """Weights are rounded one input after the other; those still to come make up for the error.

    "GPTQ: Accurate post-training quantization for generative pre-trained transformers", Frantar et al. 2022,
    arXiv:2210.17323, algorithm 1, with the columns in their order.

    Attributes:
        damping: Share of the mean of the second moments' diagonal that is added to it.

    Example:

    >>> GPTQ().damping
    0.01
    """

    damping: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "damping", check_number("damping", self.damping, 0, above=True))

    def integers(
        self, found: ErrorStatistics, scaled: np.ndarray, scale: np.ndarray, ends: tuple[int, int]
    ) -> np.ndarray:
        """Return the integers."""
        nearest = np.clip(np.rint(scaled), *ends)
        chosen = np.empty_like(nearest)
        whole = scaled == nearest
        for group, pairs in enumerate(found.means()[0]):
            mean = float(np.mean(np.diag(pairs))) or 1.0
            inverse = np.linalg.inv(pairs + self.damping * mean * np.eye(len(pairs)))
            upper = np.linalg.cholesky(inverse).T
            left = scaled[group].astype(np.float64) * scale[group]
            for row in range(len(pairs)):
                rounded = np.clip(np.rint(left[row] / scale[group, row]), *ends)
                chosen[group, row] = np.where(whole[group, row], nearest[group, row], rounded)
                error = (left[row] - chosen[group, row] * scale[group, row]) / upper[row, row]
                left[row:] -= upper[row, row:, None] * error
        better = found.error(chosen * scale) < found.error(nearest * scale)
        return np.where(better[:, None], chosen, nearest)


METHODS: dict[str, type[Rounding]] = {"adaround": AdaRound, "gptq": GPTQ}
"""By the name that `tfcompress.quantize` takes."""


def rounding_of(given: Any) -> Rounding | None:
    """Return a method itself, or that of a name; `None` for "nearest".

    >>> rounding_of("adaround").steps
    2000
    """
    if isinstance(given, Rounding):
        return given
    if given == "nearest":
        return None
    if isinstance(given, str) and given in METHODS:
        return METHODS[given]()
    names = ("nearest", *METHODS)
    raise ValueError(
        f"Expected rounding to be one of {', '.join(map(repr, names))}, or an AdaRound or a GPTQ. Received: "
        f"rounding={given!r}.{did_you_mean(given, names)}"
    )
