"""Whether a file keeps a budget: its metric in its own runtime, beside the float model's on the same samples."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Literal

import keras
import numpy as np

from tfcompress.core.arguments import check_choice, check_number, short
from tfcompress.core.error_messages import told
from tfcompress.data.array_checks import array_of
from tfcompress.data.model_batches import again
from tfcompress.data.nested_inputs import arrays
from tfcompress.data.reading import collected
from tfcompress.evaluation.evaluate import Evaluation
from tfcompress.evaluation.open_predictor import open_predictor
from tfcompress.evaluation.paired_bounds import CONFIDENCE, LEAST, bounds, drops_of, least_samples, samples_to_show
from tfcompress.evaluation.predictor import Arrays
from tfcompress.evaluation.scoring import names_of, score
from tfcompress.search.sequential import SequentialTest

Verdict = Literal["holds", "broken", "not shown", "no budget"]
Metric = str | Callable[[Any, Any], Any] | None

MEANS = {"accuracy": True, "mse": False, "mae": False}
"""Metrics that are means over samples, and whether more of it is better."""

NO_MEANS = ("macro_f1", "roc_auc", "r2")

CHUNK = 256
"""Samples between two looks of a test that may stop."""


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


@dataclasses.dataclass(frozen=True)
class _Output:
    """What the float model is on one output.

    Attributes:
        values: each sample's part in the metric, (samples,).
        metric: its name.
        better: whether more of it is better.
        points: whether it is of shares.
        how: what `scoring.score` is told, so that files are judged as the float model is.
    """

    values: np.ndarray
    metric: str
    better: bool
    points: bool
    how: Mapping[str, Any]


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
        class_names: as in `tfc.evaluate`, where classes are text.
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
        class_names: Sequence[str] | None = None,
        batch_size: int = 32,
    ):
        check_metric(metric)
        self.metric, self.batch_size = metric, batch_size
        self.class_names = names_of(class_names)
        self.x, self.y = pair_of(data)
        self.samples = len(keras.tree.flatten(self.x)[0])
        order = np.random.default_rng(0).permutation(self.samples)
        self.x, self.y = (
            keras.tree.map_structure(lambda a: a[order] if len(a) == len(order) else a, part)
            for part in (self.x, self.y)
        )
        self._text()
        outputs, targets = self._run(model, 0, self.samples)
        self._outputs = self._described(outputs, targets)
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
                found, _ = self._values(name, outputs, targets, one.how)
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

    def _text(self) -> None:
        """Number classes that are text, all together: a part of the samples may lack some."""

        def numbered(y: np.ndarray) -> np.ndarray:
            if y.dtype.kind not in "UO":
                return y
            names = self.class_names or [str(name) for name in np.unique(y)]
            unknown = sorted(set(map(str, np.unique(y))) - set(names))
            if unknown:
                raise ValueError(f"Expected classes among {names}. Received: {unknown[0]!r}.")
            return np.vectorize(names.index, otypes=["int64"])(y.astype(str))

        self.y = keras.tree.map_structure(numbered, self.y)

    def _described(self, outputs: Arrays, targets: Arrays) -> dict[str, _Output]:
        if callable(self.metric):
            values, _ = self._values("", outputs, targets, {})
            name = metric_name(self.metric).rpartition(".")[2]
            if values.shape != (self.samples,):
                raise ValueError(
                    f"Expected metric to return one value for each of {self.samples} samples: a budget is shown by "
                    f"samples. Received: {short(values)}."
                )
            # All 0 may be errors that the float model doesn't make: no share is 0 of a model that is worth something.
            shares = values.dtype == bool or (_is_binary(values) and bool(values.any()))
            return {"": _Output(values.astype(bool) if shares else values, name, True, shares, {"shares": shares})}
        found = {}
        for name in outputs:
            values, how = self._values(name, outputs, targets, {})
            metric = how.pop("metric")
            found[name] = _Output(values, metric, MEANS[metric], metric == "accuracy", how)
        return found

    def _values(
        self, name: str, outputs: Arrays, targets: Arrays, how: Mapping[str, Any]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return each sample's part in the metric, and how it was found."""
        if callable(self.metric):
            given = (next(iter(a.values())) if len(a) == 1 else a for a in (targets, outputs))
            try:
                values = np.asarray(self.metric(*given))
            except Exception as error:
                raise ValueError(
                    "Expected metric to be a function (y, outputs) -> one value for each sample. Received: "
                    f"{short(self.metric)}, which raises {type(error).__name__}: {told(error)}."
                ) from error
            if not how.get("shares"):
                return values, {}
            if not _is_binary(values):
                other = values[(values != 0) & (values != 1)]
                raise ValueError(
                    "Expected metric to return 0 or 1 for each sample, as it does for the float model: such count in "
                    f"points. Received: {other.flat[0]:.4g}. Let it return values of another scale, such as 100 times "
                    "of them, and give the budget in that."
                )
            return values.astype(bool), {}
        y, scores = targets[name], outputs[name]
        found = score(y, scores, **how)
        metric = self.metric or ("mse" if found.task == "regression" else "accuracy")
        if (metric == "accuracy") != (found.task != "regression"):
            fitting = "'mse', 'mae' or a function" if found.task == "regression" else "'accuracy' or a function"
            raise ValueError(f"Expected a metric of a {found.task} task: {fitting}. Received: metric={metric!r}.")
        assert found.judged is not None
        values = found.judged.values
        if metric == "mae":
            rows = (np.asarray(a, np.float64).reshape(len(scores), -1) for a in (y, scores))
            values = np.abs(np.subtract(*rows)).mean(axis=1)
        logits = bool((scores < 0).any() or (scores > 1).any()) if found.task == "binary" else None
        return values, {"task": found.task, "from_logits": logits, "metric": metric}


def _is_binary(values: np.ndarray) -> bool:
    return values.dtype.kind in "biuf" and bool(((values == 0) | (values == 1)).all())


_ORDER = {"no budget": 0, "holds": 0, "not shown": 1, "broken": 2}


def check_metric(metric: Metric) -> None:
    """Raise ValueError for a metric that is no mean over samples, or unknown."""
    if isinstance(metric, str) and metric in NO_MEANS:
        raise ValueError(
            f"Expected a metric that is a mean over samples, {', '.join(map(repr, MEANS))} or a function that returns "
            f"one value for each: only of such is a budget shown. Received: metric={metric!r}."
        )
    if metric is not None and not callable(metric):
        check_choice("metric", metric, MEANS, ", or a function (y, outputs) -> one value for each sample")


def metric_name(metric: Metric) -> str:
    """Return the name of a metric: of a function its module's and its own.

    >>> metric_name("mse"), metric_name(None), metric_name(math.hypot)
    ('mse', '', 'math.hypot')
    """
    if callable(metric):
        kind = metric if hasattr(metric, "__qualname__") else type(metric)
        return f"{kind.__module__}.{kind.__qualname__}"
    return metric or ""


def pair_of(data: Any) -> tuple[Any, Any]:
    """Return inputs and targets as arrays, of arrays or of what yields batches of both."""
    if isinstance(data, tuple) and len(data) == 2:
        x, y = data
        named = [keras.tree.map_structure(lambda a: array_of(a, "y", strings=True), y), arrays(x, "x")]
        return named[1], named[0]
    return collected(again(data))
