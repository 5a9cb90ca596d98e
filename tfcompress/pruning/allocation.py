"""How sparse each layer becomes, for the whole to be as sparse as wanted: pure functions of the kernels' shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from tfcompress.core.arguments import is_whole, short
from tfcompress.core.integer_programme import TooTight, solve
from tfcompress.pruning.schedules.base import check_sparsity

Shapes = Mapping[str, Sequence[int]]

_HALVINGS = 60


class Spread(dict[str, float]):
    """{layer: sparsity} as found by a function, for all layers that it knew; else a dict as any other."""


class Scan(Protocol):
    """What `from_sensitivity` reads: a `tfc.Sensitivity`."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Number of kernel weights, by layer."""

    def losses(self) -> Mapping[str, Mapping[float, float]]:
        """How much worse the metric is at each sparsity of each layer."""


def uniform(shapes: Shapes, sparsity: float) -> dict[str, float]:
    """Return the same sparsity for all.

    Args:
        shapes: {name: shape of the kernel}.
        sparsity: Share of zeros of all kernels together, in [0, 1).

    Returns:
        {name: sparsity}.

    Raises:
        ValueError: If there is no kernel, a shape has fewer than two dimensions, or `sparsity` is out of range.

    Example:

    >>> uniform({"a": (2, 8), "b": (100, 100)}, 0.9)
    {'a': 0.9, 'b': 0.9}
    """
    sparsity = check_sparsity("sparsity", sparsity)
    return Spread.fromkeys(_sizes(shapes), sparsity)


def erdos_renyi(shapes: Shapes, sparsity: float) -> dict[str, float]:
    """Return the sparsities of an Erdos-Renyi random graph: large layers become sparser than small ones.

    The density of a layer is proportional to `(n_in + n_out) / (n_in * n_out)` (Mocanu et al., 2018); one that would
    exceed 1 is dense, and the others make up for it.

    Args:
        shapes: {name: shape of the kernel}; its last two dimensions are n_in and n_out.
        sparsity: Share of zeros of all kernels together, in [0, 1).

    Returns:
        {name: sparsity}; the kernels' zeros are the wanted share of all their weights.

    Raises:
        ValueError: As `uniform`.

    Example:

    >>> {name: round(s, 4) for name, s in erdos_renyi({"a": (8, 8), "b": (100, 100)}, 0.9).items()}
    {'a': 0.0, 'b': 0.9058}
    """
    return _proportional(shapes, sparsity, lambda shape: sum(shape[-2:]) / math.prod(shape[-2:]))


def erdos_renyi_kernel(shapes: Shapes, sparsity: float) -> dict[str, float]:
    """Return Erdos-Renyi sparsities that count the kernel's height and width as well (Evci et al., 2020).

    The density of a convolution is proportional to `(n_in + n_out + height + width) / (n_in * n_out * height *
    width)`; else as `erdos_renyi`. RigL's accuracies at high sparsity are reported with it.

    Args:
        shapes: {name: shape of the kernel}.
        sparsity: Share of zeros of all kernels together, in [0, 1).

    Returns:
        {name: sparsity}; the kernels' zeros are the wanted share of all their weights.

    Raises:
        ValueError: As `uniform`.

    Example:

    >>> shapes = {"conv": (3, 3, 16, 16), "dense": (256, 10)}
    >>> {name: round(s, 4) for name, s in erdos_renyi_kernel(shapes, 0.8).items()}
    {'conv': 0.9472, 'dense': 0.6675}
    """
    return _proportional(shapes, sparsity, lambda shape: sum(shape) / math.prod(shape))


def from_sensitivity(result: Scan, budget: float) -> dict[str, float]:
    """Return the sparsities at which all layers cost the same, by a scan of `tfc.sensitivity`.

    Each layer becomes as sparse as it may be for its own loss, measured with all others dense, to stay within one
    common tolerance; the tolerance is found by bisection (as Li et al., 2017, and Han et al., 2015, do by hand).
    Between measured sparsities the loss is taken as linear, and never as falling.

    Args:
        result: A scan of sparsities.
        budget: Share of zeros of all scanned kernels together, in [0, 1).

    Returns:
        {layer: sparsity}, none above the highest that was measured.

    Raises:
        TypeError: If `result` is no scan.
        ValueError: If the budget is out of range, or can't be reached with the sparsities that were measured; or if
            the scan is one of bit widths.

    Example:

    >>> class Scanned:
    ...     sizes = {"robust": 100, "fragile": 100}
    ...     def losses(self):
    ...         return {"robust": {0.5: 0.0, 0.9: 0.1}, "fragile": {0.5: 0.1, 0.9: 0.5}}
    >>> {name: round(s, 3) for name, s in from_sensitivity(Scanned(), 0.5).items()}
    {'robust': 0.722, 'fragile': 0.278}
    """
    budget = check_sparsity("budget", budget)
    curves = {}
    for name, losses in _losses(result).items():
        levels = sorted(losses)
        worse = np.maximum.accumulate([0.0, *(losses[level] for level in levels)])
        curves[name] = np.array([0.0, *levels]), worse
    sizes = np.array([result.sizes[name] for name in curves], float)

    def allowed(tolerance: float) -> np.ndarray:
        return np.array([_last_within(*curve, tolerance) for curve in curves.values()])

    def overall(sparsities: np.ndarray) -> float:
        return float(sizes @ sparsities / sizes.sum())

    high = max(worse[-1] for _, worse in curves.values())
    most = overall(allowed(high))
    if budget > most + 1e-12:
        raise _too_high(budget, most, max(levels[-1] for levels, _ in curves.values()))
    low, below = 0.0, np.zeros(len(curves))  # what is within the budget
    above = allowed(high)
    if overall(allowed(0.0)) > budget:
        above = allowed(0.0)
    else:
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if overall(allowed(middle)) > budget:
                high = middle
            else:
                low = middle
        below, above = allowed(low), allowed(high)
    # Where a loss is flat the sparsity jumps; all layers take the same share of the jump.
    jump = overall(above) - overall(below)
    share = min((budget - overall(below)) / jump, 1.0) if jump > 0 else 0.0
    return Spread(zip(curves, (below + share * (above - below)).tolist(), strict=True))


def least_loss(result: Scan, budget: float) -> dict[str, float]:
    """Return the sparsities with the least sum of losses, each one of those that were scanned: an integer programme.

    `from_sensitivity` lets all layers lose the same; this lets those lose more whose weights buy more. Losses are
    taken to add up. The programme is solved to a gap of 0 (`scipy.optimize.milp`).

    Args:
        result: A scan of sparsities, of `tfc.sensitivity`; or anything with `sizes` and `losses()`, such as
            `tfcompress.search.sparsity_scores.sparsity_scores(model, data)`, which goes through data once.
        budget: Share of zeros of all scanned kernels together that is reached at least, in [0, 1).

    Returns:
        {layer: sparsity}; 0 is always one of the choices.

    Raises:
        TypeError: If `result` is no scan.
        ValueError: If the budget is out of range or can't be reached with the sparsities that were measured; or if the
            scan is one of bit widths.

    Example:

    >>> class Scanned:
    ...     sizes = {"robust": 100, "fragile": 100}
    ...     def losses(self):
    ...         return {"robust": {0.5: 0.0, 0.9: 0.1}, "fragile": {0.5: 0.3, 0.9: 0.5}}
    >>> least_loss(Scanned(), 0.45)
    {'robust': 0.9, 'fragile': 0.0}
    """
    budget = check_sparsity("budget", budget)
    losses, names = _losses(result), []
    levels, worse, dense = [], [], []
    for name, own in losses.items():
        names.append(name)
        levels.append([0.0, *(level for level in sorted(own) if level)])
        worse.append([max(own[level], 0.0) if level else 0.0 for level in levels[-1]])
        dense.append([(1 - level) * result.sizes[name] for level in levels[-1]])
    weights = sum(result.sizes[name] for name in names)
    try:
        found = solve(worse, [(dense, (1 - budget) * weights * (1 + 1e-12))])
    except TooTight as error:
        raise _too_high(budget, 1 - error.least[0] / weights, max(own[-1] for own in levels)) from None
    return Spread({name: own[place] for name, own, place in zip(names, levels, found.places, strict=True)})


def _too_high(budget: float, most: float, scanned: float) -> ValueError:
    return ValueError(
        f"Expected a budget of at most {most:.4g}, since no layer was scanned beyond {scanned:.4g}. Received: "
        f"budget={budget}. Scan higher sparsities as well."
    )


def _losses(result: Scan) -> Mapping[str, Mapping[float, float]]:
    """Return the losses of a scan of sparsities, by layer and sparsity."""
    if isinstance(result, type) or not callable(getattr(result, "losses", None)) or not hasattr(result, "sizes"):
        raise TypeError(f"Expected a scan, which tfc.sensitivity(...) returns. Received: {short(result)}.")
    found = result.losses()
    for name, losses in found.items():
        levels = sorted(losses)
        if not levels or not 0 <= levels[0] <= levels[-1] < 1:
            raise ValueError(
                "Expected a scan of sparsities in [0, 1), as tfc.sensitivity(model, data, sparsities=...) makes. "
                f"Received: the levels {levels} of layer {name!r}."
            )
    return found


def _last_within(levels: np.ndarray, worse: np.ndarray, tolerance: float) -> float:
    """Return the largest sparsity whose loss is at most `tolerance`, on a line through rising points."""
    place = int(np.searchsorted(worse, tolerance, side="right")) - 1
    if place == len(levels) - 1:
        return float(levels[-1])
    share = (tolerance - worse[place]) / (worse[place + 1] - worse[place])
    return float(levels[place] + share * (levels[place + 1] - levels[place]))


def _sizes(shapes: Shapes) -> dict[str, int]:
    if not isinstance(shapes, Mapping):
        raise TypeError(f"Expected shapes to be {{name: shape of the kernel}}. Received: {short(shapes)}.")
    if not shapes:
        raise ValueError("Expected at least one kernel. Received: shapes={}.")
    for name, shape in shapes.items():
        if not isinstance(shape, Sequence) or isinstance(shape, str):
            raise TypeError(f"Expected the shape of a kernel. Received: {short(shape)} for {name!r}.")
        if len(shape) < 2 or not all(is_whole(length) and length >= 1 for length in shape):
            raise ValueError(
                "Expected shapes of kernels, with two or more dimensions of at least 1. Received: "
                f"{tuple(shape)} for {name!r}. Leave out biases and other vectors."
            )
    return {name: math.prod(shape) for name, shape in shapes.items()}


def _proportional(shapes: Shapes, sparsity: float, weight: Callable[[Sequence[int]], float]) -> dict[str, float]:
    """Return sparsities whose densities are proportional to `weight(shape)`, none above 1."""
    sparsity = check_sparsity("sparsity", sparsity)
    sizes = np.array(list(_sizes(shapes).values()), float)
    names = list(shapes)
    weights = np.array([weight(tuple(map(int, shapes[name]))) for name in names])
    dense = np.zeros(len(names), bool)
    densities = np.ones(len(names))
    while not dense.all():
        rest = (1 - sparsity) * sizes.sum() - sizes[dense].sum()
        densities[~dense] = weights[~dense] * rest / (sizes @ (weights * ~dense))
        # With a layer capped the others get more: what has exceeded 1 stays dense.
        exceeds = ~dense & (densities > 1)
        densities[exceeds] = 1
        dense |= exceeds
        if not exceeds.any():
            break
    return Spread(zip(names, (1 - densities).tolist(), strict=True))
