"""How much worse a file is than the float model, and what that says of a budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, Literal

from tfcompress.evaluation.paired_bounds import CONFIDENCE

Verdict = Literal["holds", "broken", "not shown", "no budget"]


@dataclasses.dataclass(frozen=True)
class Judgement:
    """How much worse a file is than the float model, and what that says of a budget.

    Attributes:
        metric: "accuracy", "mse", "mae" or the name of a function, with the output's where there are several.
        baseline: of the float model on the same samples; a share within [0, 1], or in the metric's own unit.
        value: of the file.
        drop: by how much the file is worse: in points (hundredths) of shares, else in the metric's own unit; negative
            where it is better.
        interval: (low, high) of the drop: each bound holds with `confidence` by itself.
        samples: that it was judged on.
        verdict: "holds": the upper bound is within the budget; "broken": the lower one is beyond it; "not shown":
            neither; "no budget" was given.
        budget: the largest drop, in the unit of `drop`.
        needed: about how many samples would show that it holds, were the drop the one seen; `None`: no number, or it
            isn't known.
        points: whether the drop is in points.
        confidence: of each bound.
        stopped: whether a test was stopped early; the interval then holds at any number of samples.
        deviation: the standard deviation of the samples' drops, in the unit of `drop`.
    """

    metric: str
    baseline: float
    value: float
    drop: float
    interval: tuple[float, float]
    samples: int
    verdict: Verdict
    budget: float | None = None
    needed: int | None = None
    points: bool = True
    confidence: float = CONFIDENCE
    stopped: bool = False
    deviation: float = 0.0

    def expected(self, samples: int) -> float:
        """Return the upper bound that so many other samples would show, were drops what they are here.

        >>> judgement = Judgement("accuracy", 0.9, 0.899, 0.1, (-0.3, 0.5), 100, "not shown", deviation=10.0)
        >>> round(judgement.expected(2500), 3)
        0.429
        """
        half = float(NormalDist().inv_cdf(self.confidence if not self.stopped else CONFIDENCE)) * self.deviation
        least = -100 * math.expm1(math.log(1 - CONFIDENCE) / samples) if self.points else 0.0
        return self.drop + max(half / math.sqrt(samples), least)

    def promises(self, budget: float, samples: int, errors: float = -1.0) -> bool:
        """Return whether so many other samples may well show that a budget holds.

        The drop is taken as its standard error lower than it is seen: what in truth holds isn't to be left out by
        chance, and what doesn't is found by the proof.

        Args:
            budget: the largest drop.
            samples: how many other samples.
            errors: the standard errors that are added to the drop as it is seen: 1 for what is rather sure.
        """
        error = self.deviation / math.sqrt(self.samples)
        return self.verdict != "broken" and self.expected(samples) + errors * error <= budget

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return {**dataclasses.asdict(self), "interval": list(self.interval)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Judgement:
        """Return the judgement that `to_dict` was called on."""
        return cls(**{**values, "interval": tuple(values["interval"])})

    def __str__(self) -> str:
        unit = " points" if self.points else ""
        low, high = self.interval
        text = f"{self.metric} {_figure(self.value, self.points)}, {_figure(self.baseline, self.points)} of the float "
        text += f"model: a drop of {self.drop:.3g}{unit} [{low:.3g}, {high:.3g}] on {self.samples:,} samples"
        if self.budget is None:
            return text
        text += f": a budget of {self.budget:g}{unit} {_SAID[self.verdict]}"
        if self.verdict == "not shown" and self.needed is not None and self.needed > self.samples:
            text += f"; about {self.needed:,} samples would show a drop like this one"
        return text


_SAID = {"holds": "holds", "broken": "is broken", "not shown": "is not shown to hold", "no budget": ""}


def _figure(value: float, points: bool) -> str:
    return f"{100 * value:.2f} %" if points else f"{value:.4g}"
