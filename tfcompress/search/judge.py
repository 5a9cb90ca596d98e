"""Whether a file keeps a budget: its metric in its own runtime, beside the float model's on the same samples."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import check_number
from tfcompress.evaluation.evaluate import Evaluation
from tfcompress.evaluation.open_predictor import open_predictor
from tfcompress.evaluation.paired_bounds import CONFIDENCE, LEAST, bounds, drops_of, least_samples, samples_to_show
from tfcompress.evaluation.predictor import Arrays, name_arrays
from tfcompress.evaluation.scoring import ClassNames, names_by_output
from tfcompress.graph.naming import names_of_outputs
from tfcompress.search.judgement import Judgement, Verdict
from tfcompress.search.metric import Metric, check_metric, described, metric_name, values_of
from tfcompress.search.named_data import pair_of
from tfcompress.search.sequential import SequentialTest

CHUNK = 256
"""Samples between two looks of a test that may stop."""


class Judge:
    """Judges files and models beside a float model, on samples that are the same for all.

    Args:
        model: the float model.
        data: `(x, y)`, arrays as `tfc.evaluate` takes them, or what yields batches of both, which are kept.
        metric: "accuracy", "mse", "mae"; or a function from (y, outputs) to one value for each sample, of which more
            is better: its mean is the metric; of True and False, or 1 and 0 for the float model, it counts in points.
            Of several outputs both are dicts by their names. `None`: as `tfc.evaluate` finds it, the accuracy of
            classes, else the mean squared error; each of several outputs then has to keep the budget, and the one
            nearest to breaking it is told of.
        class_names: as in `tfc.evaluate`, where classes are text; by output name, too.
        batch_size: samples at once.

    Samples are looked at in an order of their own, drawn once: data is often sorted, and a test may stop early.

    Raises:
        ValueError: the data doesn't fit the model, or the metric isn't a mean over samples.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Softmax()])
    >>> judge = Judge(model, (np.eye(2).repeat(400, 0), np.arange(2).repeat(400)))
    >>> print(judge(model, budget=0.5))
    accuracy 100.00 %, 100.00 % of the float model: a drop of 0 points [-0.374, 0.374] on 800 samples: a budget of 0.5
    points holds
    """

    def __init__(
        self,
        model: keras.Model,
        data: Any,
        metric: Metric = None,
        *,
        class_names: ClassNames = None,
        batch_size: int = 32,
    ):
        check_metric(metric)
        self.metric, self.batch_size = metric, batch_size
        self.class_names = names_by_output(class_names)
        self.x, self.y = pair_of(data)
        self.samples = len(keras.tree.flatten(self.x)[0])
        order = np.random.default_rng(0).permutation(self.samples)
        self.x, self.y = (
            keras.tree.map_structure(lambda a: a[order] if len(a) == len(order) else a, part)
            for part in (self.x, self.y)
        )
        self._text(names_of_outputs(model))
        outputs, targets = self._run(model, 0, self.samples)
        self._outputs = described(metric, outputs, targets)
        kinds = {(one.metric, one.points) for one in self._outputs.values()}
        if len(kinds) > 1:
            said = ", ".join(f"{one.metric} of {name!r}" for name, one in self._outputs.items())
            raise ValueError(
                f"Expected outputs of one kind, to judge all by one budget. Received: {said}. Give metric=, a function "
                "from the targets and the outputs, by their names, to one value for each sample."
            )

    @property
    def points(self) -> bool:
        """Whether drops are in points."""
        return next(iter(self._outputs.values())).points

    @property
    def name(self) -> str:
        """The name of the metric."""
        return next(iter(self._outputs.values())).metric

    @property
    def fingerprint(self) -> str:
        """What tells the metric from others, in another process too: of a function, also what it says of the model.

        Functions may share a name, as lambdas do. Means of a few parts, of four digits, are the same on other machines.
        """
        if not callable(self.metric):
            return metric_name(self.metric)
        values = next(iter(self._outputs.values())).values.astype(np.float64)
        scale = float(np.abs(values).max()) or 1.0
        means = [f"{part.mean() / scale:.4f}" for part in np.array_split(values, min(8, len(values)))]
        return " ".join([metric_name(self.metric), f"{scale:.4g}", *means])

    @property
    def baseline(self) -> float:
        """The float model's metric; of several outputs the mean of theirs."""
        return float(np.mean([one.values.mean() for one in self._outputs.values()]))

    def check_budget(self, budget: float, what: str = "max_drop", advice: str = "", share: float = 1.0) -> None:
        """Raise ValueError where a budget could not be shown even if no sample differed.

        Args:
            budget: in points of shares, else in the metric's own unit.
            what: what the budget is called.
            advice: what else to do.
            share: of the samples that were given, those that are here.
        """
        check_number(what, budget)
        if budget <= 0:
            raise ValueError(
                f"Expected {what} above 0: by how much the metric may be worse{', in points' if self.points else ''}. "
                f"Received: {what}={budget:g}. That no sample at all is worse can't be shown by samples."
            )
        least = least_samples(budget / 100) if self.points else LEAST
        if self.samples < least:
            unit = " points" if self.points else ""
            raise ValueError(
                f"Expected at least {math.ceil(least / share):,} samples to judge by: with fewer, a drop of {budget:g}"
                f"{unit} can't be shown, even if not one sample differs. Received: {round(self.samples / share):,}. "
                f"Give more, or a larger {what}.{advice}"
            )

    def __call__(
        self,
        source: keras.Model | str | os.PathLike[str],
        budget: float | None = None,
        *,
        early: bool = False,
        confidence: float = CONFIDENCE,
    ) -> Judgement:
        """Judge a model, or a file in its runtime.

        Args:
            source: as `tfc.evaluate` takes it.
            budget: the largest drop, in points of shares, else in the metric's own unit.
            early: whether to stop as soon as it is clear whether a budget of shares holds: such a verdict is wrong with
                a probability of at most .01, on top of that at the end.
            confidence: of each bound.
        """
        drops: dict[str, list[np.ndarray]] = {name: [] for name in self._outputs}
        values: dict[str, list[np.ndarray]] = {name: [] for name in self._outputs}
        tests = None
        if early and budget is not None and self.points and budget < 100:
            tests = {name: SequentialTest(budget / 100) for name in self._outputs}
        predictor = open_predictor(source)
        verdicts: list[str | None] = []
        for start, stop in self._spans() if tests else ((0, self.samples),):
            outputs, targets = self._run(predictor, start, stop)
            for name, one in self._outputs.items():
                found, _ = values_of(self.metric, name, outputs, targets, one.how)
                if found.shape != (stop - start,):
                    raise ValueError(f"Expected {one.metric} of each sample. Received: shape {found.shape}.")
                values[name].append(found)
                drops[name].append(drops_of(found, one.values[start:stop], one.better))
            verdicts = [test.update(drops[name][-1]) for name, test in tests.items()] if tests else []
            if "broken" in verdicts or (verdicts and set(verdicts) == {"holds"}):
                break
        judged = []
        for name in self._outputs:
            drop, value = np.concatenate(drops[name]), np.concatenate(values[name])
            test = tests[name] if tests and len(drop) < self.samples else None
            judged.append(self._judgement(name, drop, value, budget, test=test, confidence=confidence))
        return max(judged, key=lambda each: (_ORDER[each.verdict], each.interval[1]))

    def _judgement(
        self,
        name: str,
        drops: np.ndarray,
        values: np.ndarray,
        budget: float | None,
        *,
        test: SequentialTest | None,
        confidence: float,
    ) -> Judgement:
        one = self._outputs[name]
        unit = 100.0 if one.points else 1.0
        low, high = bounds(drops, confidence, shares=one.points) if test is None else test.interval()
        low, high = unit * low, unit * high
        verdict: Verdict = "no budget"
        needed = None
        if budget is not None:
            verdict = "holds" if high <= budget else "broken" if low > budget else "not shown"
            if len(drops) < LEAST and drops.dtype != np.int8:
                verdict = "not shown"
            if verdict == "not shown":
                needed = samples_to_show(drops, budget / unit, confidence)
        return Judgement(
            metric=f"{one.metric} of {name!r}" if len(self._outputs) > 1 else one.metric,
            baseline=float(one.values[: len(drops)].mean()),
            value=float(values.mean()),
            drop=unit * float(drops.mean()),
            interval=(low, high),
            samples=len(drops),
            verdict=verdict,
            budget=budget,
            needed=needed,
            points=one.points,
            confidence=confidence if test is None else 1 - test.error,
            stopped=test is not None,
            deviation=unit * float(np.std(drops.astype(np.float64))),
        )

    def _spans(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.samples, CHUNK):
            yield start, min(start + CHUNK, self.samples)

    def _run(self, source: Any, start: int, stop: int) -> tuple[Arrays, Arrays]:
        predictor = open_predictor(source) if isinstance(source, keras.Model) else source
        evaluation = Evaluation(predictor, self.batch_size, looks=False)
        x, y = (keras.tree.map_structure(lambda a: a[start:stop], part) for part in (self.x, self.y))
        evaluation.run(*evaluation.check(x, y))
        outputs, targets = evaluation.found()
        if len(outputs) == 1:  # models and files may call it differently
            return {"": next(iter(outputs.values()))}, {"": next(iter(targets.values()))}
        return outputs, targets

    def _text(self, outputs: Sequence[str]) -> None:
        """Number classes that are text, all together: a part of the samples may lack some."""

        def numbered(y: np.ndarray, names: list[str] | None) -> np.ndarray:
            if y.dtype.kind not in "UO":
                return y
            names = names or [str(name) for name in np.unique(y)]
            unknown = sorted(set(map(str, np.unique(y))) - set(names))
            if unknown:
                raise ValueError(f"Expected classes among {names}. Received: {unknown[0]!r}.")
            return np.vectorize(names.index, otypes=["int64"])(y.astype(str))

        if isinstance(self.class_names, Mapping):
            named = name_arrays(self.y, outputs, "output", "y")
            self.y = {name: numbered(y, self.class_names.get(name)) for name, y in named.items()}
        else:
            self.y = keras.tree.map_structure(lambda y: numbered(y, self.class_names), self.y)


_ORDER = {"no budget": 0, "holds": 0, "not shown": 1, "broken": 2}
