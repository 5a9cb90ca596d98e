"""Models side by side: the figures of each, and how they differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfcompress.evaluation.footprint import Footprint
from tfcompress.evaluation.intervals import Interval, mark, of_difference, of_f1_differences, of_ratio
from tfcompress.evaluation.metrics import Metrics
from tfcompress.evaluation.size import Size
from tfcompress.evaluation.timing import Timing
from tfcompress.export.plan.file_operators import Operators
from tfcompress.npu.estimate import NPUEstimate
from tfcompress.reports.json_document import Document
from tfcompress.reports.tables import plain

FACTORS = {"accuracy": 100.0, "mse": 1.0}
"""Differences of accuracy are in percentage points."""


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """One row of a report.

    Attributes:
        name: as given to `tfc.compare`.
        format: "keras", "tflite" or "onnx".
        size: bytes, parameters, non-zeros.
        metrics: as of `tfc.evaluate`.
        timing: as of `tfc.benchmark`; None with latency=False.
        is_file: whether it was given as a file, whose size is meant; that of a model in memory is the size of the
            `.keras` file without the optimizer's state.
        operators: of a `.tflite` or `.onnx` file, how many operators compute in integers and which in float; why, where
            its `Artifact` was given.
        footprint: of a file that TFLite Micro ran: its arena, and whether it fits.
        runtime: name and version of what ran it; empty: not known.
        npu: of a file for a target with an NPU: what its compiler estimates.
    """

    name: str
    format: str
    size: Size
    metrics: Metrics
    timing: Timing | None
    is_file: bool = True
    operators: Operators | None = None
    footprint: Footprint | None = None
    runtime: str = ""
    npu: NPUEstimate | None = None


@dataclasses.dataclass(frozen=True)
class F1Difference:
    """By how much the F1 of one class differs from the baseline's.

    Attributes:
        name: of the class.
        difference: F1 less the baseline's.
        interval: (low, high) where it lies with 95 % confidence.
    """

    name: str
    difference: float
    interval: Interval

    @property
    def mark(self) -> str:
        """Whether it is "better", "worse", or "grey": it may be chance."""
        return mark(self.interval)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.difference:+.3f} [{low:+.3f}, {high:+.3f}]"


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison(Document):
    """Several models side by side, as figures.

    Attributes:
        candidates: one `Candidate` per model, in the order given.
        baseline: the name of the one that the others are compared with.
        environment: versions, processor, threads and time of the run.
        about: what the reader should know of the run, by name: "model" and "data" stand at the top of the page.
    """

    candidates: tuple[Candidate, ...]
    baseline: str
    environment: Mapping[str, str]
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __getitem__(self, name: str) -> Candidate:
        """Return the candidate called `name`."""
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        raise KeyError(f"Expected one of {[candidate.name for candidate in self.candidates]}. Received: {name!r}.")

    def differences(self, name: str) -> dict[str, float]:
        """Return how much better or worse a candidate is than the baseline.

        Args:
            name: of the candidate.

        Returns:
            {output name: difference}, "" for the only output: of the accuracy in percentage points, of the
            MSE in its own unit.
        """
        ours, theirs = self[name].metrics.scores, self[self.baseline].metrics.scores
        return {key: FACTORS[kind] * (value - theirs[key][1]) for key, (kind, value) in ours.items() if key in theirs}

    def intervals(self, name: str) -> dict[str, Interval]:
        """Return where the differences to the baseline lie with 95 % confidence, found on the same samples in pairs.

        Args:
            name: of the candidate.

        Returns:
            {output name: (low, high)} in the unit of `differences`; no entry where it isn't known. One that holds 0
            says that on these samples the difference may be chance.
        """
        ours, theirs = self[name].metrics, self[self.baseline].metrics
        found = {}
        for output in self.differences(name) if name != self.baseline else ():
            one, other = (metrics[output] if metrics.outputs else metrics for metrics in (ours, theirs))
            if one.judged and other.judged:
                interval = of_difference(one.judged.values, other.judged.values)
                factor = FACTORS[one.scores[""][0]]
                found.update({output: (factor * interval[0], factor * interval[1])} if interval else {})
        return found

    def f1_differences(self, name: str, output: str = "") -> tuple[F1Difference, ...]:
        """Return how much better or worse a candidate finds each class than the baseline.

        Args:
            name: of the candidate.
            output: of a model with several outputs, which.

        Returns:
            One for each class, in order; none of the baseline itself, where there are no classes, or where a sample
            holds several predictions.
        """
        found = [self[each].metrics.outputs.get(output, self[each].metrics) for each in (name, self.baseline)]
        ours, theirs = (one.judged for one in found)
        if name == self.baseline or ours is None or theirs is None or len(found[0].classes) != len(found[1].classes):
            return ()
        if ours.labels is None or ours.predicted is None or theirs.predicted is None:
            return ()
        if len(ours.predicted) != len(theirs.predicted):
            return ()
        intervals = of_f1_differences(ours.labels, ours.predicted, theirs.predicted, len(found[0].classes))
        return tuple(
            F1Difference(one.name, one.f1 - other.f1, interval)
            for one, other, interval in zip(found[0].classes, found[1].classes, intervals, strict=True)
        )

    def speedup(self, name: str) -> float | None:
        """Return the baseline's median latency over the candidate's; None where it wasn't timed."""
        ours, theirs = self[name].timing, self[self.baseline].timing
        return theirs.median_ms / ours.median_ms if ours and theirs and ours.median_ms else None

    def speedup_interval(self, name: str) -> Interval | None:
        """Return where the speed-up lies with 95 % confidence, found on the rounds in which all were timed in turns.

        One that holds 1 says that the difference may be chance. None where it isn't known, and of the baseline.
        """
        ours, theirs = self[name].timing, self[self.baseline].timing
        if name == self.baseline or ours is None or theirs is None:
            return None
        return of_ratio(theirs.rounds_ms, ours.rounds_ms)

    def shrink(self, name: str) -> float:
        """Return the baseline's file bytes over the candidate's."""
        return self[self.baseline].size.file_bytes / max(1, self[name].size.file_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        candidates = []
        for candidate in self.candidates:
            timing = candidate.timing.to_dict() if candidate.timing else None
            candidates.append(
                {
                    "name": candidate.name,
                    "format": candidate.format,
                    **dataclasses.asdict(candidate.size),
                    "sparsity": candidate.size.sparsity,
                    "metrics": candidate.metrics.to_dict(),
                    "differences": self.differences(candidate.name),
                    "intervals": self.intervals(candidate.name),
                    "f1_differences": {
                        output: [dataclasses.asdict(one) for one in found]
                        for output in candidate.metrics.scores
                        if (found := self.f1_differences(candidate.name, output))
                    },
                    "shrink": self.shrink(candidate.name),
                    "operators": candidate.operators and dataclasses.asdict(candidate.operators),
                    "footprint": candidate.footprint and candidate.footprint.to_dict(),
                    "npu": candidate.npu and candidate.npu.to_dict(),
                    "runtime": candidate.runtime,
                    "timing": timing,
                    "speedup": self.speedup(candidate.name),
                    "speedup_interval": self.speedup_interval(candidate.name),
                }
            )
        document = {"version": 1, "baseline": self.baseline, "environment": dict(self.environment)}
        document["about"] = dict(self.about)
        return plain({**document, "candidates": candidates})
