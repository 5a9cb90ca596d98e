"""A test of a budget that may stop at any sample, and is no more often wrong for that.

The mean of paired differences, each within [-1, 1], is bet on: I. Waudby-Smith and A. Ramdas, "Estimating means of
bounded random variables by betting", Journal of the Royal Statistical Society B 86 (2024), arXiv:2010.09686. Whoever
bets that the drop is below m, at fair odds were it m, multiplies a capital of 1 by 1 + f (m - d) / (1 - m) at each
difference d. If the drop is m or more the capital isn't expected to grow, so that by Ville's inequality it ever reaches
1 / a with probability a at most. The capital is spread over several shares f at once (their section on grids of bets),
so that no share has to be guessed.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

SHARES = 0.95 * 0.5 ** np.arange(10)
"""Of the most that can be bet without the capital ever reaching 0."""

Verdict = Literal["holds", "broken"]


class SequentialTest:
    """Whether the mean of differences is within a budget, looked at as often as one likes.

    Args:
        budget: the largest mean that holds, within (-1, 1).
        error: how likely at most it says "holds" where the budget doesn't, and "broken" where it does.

    Example:

    >>> test = SequentialTest(0.05)
    >>> random = np.random.default_rng(0)
    >>> test.update(random.random(50) < 0.3), test.update(random.random(50) < 0.3), test.samples
    (None, 'broken', 100)
    """

    def __init__(self, budget: float, error: float = 0.01):
        if not -1 < budget < 1 or not 0 < error < 1:
            raise ValueError(f"Expected budget in (-1, 1), error in (0, 1). Received: budget={budget}, error={error}.")
        self.budget, self.error = budget, error
        self.drops = np.zeros(0)
        self.verdict: Verdict | None = None
        self._capital = {1: np.zeros(len(SHARES)), -1: np.zeros(len(SHARES))}

    @property
    def samples(self) -> int:
        """How many differences it has seen."""
        return len(self.drops)

    def update(self, drops: np.ndarray) -> Verdict | None:
        """Take more differences, each within [-1, 1]; return the verdict, which then stays, or `None` as yet."""
        new = np.asarray(drops, np.float64)
        if len(new) and (new.min() < -1 or new.max() > 1):
            raise ValueError(f"Expected differences within [-1, 1]. Received: {new.min():g} to {new.max():g}.")
        self.drops = np.concatenate([self.drops, new])
        sides: tuple[tuple[Literal[1, -1], Verdict], ...] = ((1, "holds"), (-1, "broken"))
        for sign, verdict in sides if self.verdict is None and len(new) else ():
            capital = _capital(sign * new, sign * self.budget, self._capital[sign])
            self._capital[sign] = capital[-1]
            if self.verdict is None and _highest(capital) >= -np.log(self.error):
                self.verdict = verdict
        return self.verdict

    def interval(self) -> tuple[float, float]:
        """Return where the mean lies, each side wrong with a probability of at most `error`, whenever it is asked."""
        return -self._upper(-self.drops), self._upper(self.drops)

    def _upper(self, drops: np.ndarray) -> float:
        low, high = -1.0, 1.0
        for _ in range(30 if len(drops) else 0):
            middle = (low + high) / 2
            if _highest(_capital(drops, middle, 0.0)) >= -np.log(self.error):
                high = middle
            else:
                low = middle
        return high


def _capital(drops: np.ndarray, mean: float, before: np.ndarray | float) -> np.ndarray:
    """Return the logarithm of what becomes of each share after each difference, betting that the mean is below."""
    return before + np.cumsum(np.log1p(SHARES * ((mean - drops) / (1 - mean))[:, None]), axis=0)


def _highest(capital: np.ndarray) -> float:
    """Return the logarithm of the most that all shares together have ever been."""
    most = capital.max(axis=1)
    return float((most + np.log(np.exp(capital - most[:, None]).mean(axis=1))).max())
