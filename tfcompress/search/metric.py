"""The metric of a budget: what each sample is worth, by the name of a metric or by a function of the user's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfcompress.core.arguments import check_choice, short
from tfcompress.core.error_messages import told
from tfcompress.evaluation.predictor import Arrays
from tfcompress.evaluation.scoring import judge

Metric = str | Callable[[Any, Any], Any] | None

MEANS = {"accuracy": True, "mse": False, "mae": False}
"""Metrics that are means over samples, and whether more of it is better."""

NO_MEANS = ("macro_f1", "roc_auc", "r2")


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

    >>> metric_name("mse"), metric_name(None), metric_name(check_metric)
    ('mse', '', 'tfcompress.search.metric.check_metric')
    """
    if callable(metric):
        kind = metric if hasattr(metric, "__qualname__") else type(metric)
        return f"{kind.__module__}.{kind.__qualname__}"
    return metric or ""


@dataclasses.dataclass(frozen=True)
class OutputMetric:
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


def described(metric: Metric, outputs: Arrays, targets: Arrays) -> dict[str, OutputMetric]:
    """Return what a float model is on each output, by a metric; by a function on all together, called "".

    Raises:
        ValueError: the metric isn't a mean over samples, or doesn't fit the outputs.
    """
    if callable(metric):
        values, _ = values_of(metric, "", outputs, targets, {})
        name = metric_name(metric).rpartition(".")[2]
        samples = len(next(iter(outputs.values())))
        if values.shape != (samples,):
            raise ValueError(
                f"Expected metric to return one value for each of {samples} samples: a budget is shown by "
                f"samples. Received: {short(values)}."
            )
        # All 0 may be errors that the float model doesn't make: no share is 0 of a model that is worth something.
        shares = values.dtype == bool or (_is_binary(values) and bool(values.any()))
        return {"": OutputMetric(values.astype(bool) if shares else values, name, True, shares, {"shares": shares})}
    found = {}
    for name in outputs:
        values, how = values_of(metric, name, outputs, targets, {})
        used = how.pop("metric")
        found[name] = OutputMetric(values, used, MEANS[used], used == "accuracy", how)
    return found


def values_of(
    metric: Metric, name: str, outputs: Arrays, targets: Arrays, how: Mapping[str, Any]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return each sample's part in the metric of an output, and how it was found.

    Args:
        metric: as `Judge` takes it.
        name: of the output; of a function it doesn't count.
        outputs: of a model, by name.
        targets: likewise.
        how: as in `OutputMetric`; empty: of the float model.
    """
    if callable(metric):
        given = (next(iter(a.values())) if len(a) == 1 else a for a in (targets, outputs))
        try:
            values = np.asarray(metric(*given))
        except Exception as error:
            raise ValueError(
                "Expected metric to be a function (y, outputs) -> one value for each sample. Received: "
                f"{short(metric)}, which raises {type(error).__name__}: {told(error)}."
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
    task, judged = judge(y, scores, **how)
    used = metric or ("mse" if task == "regression" else "accuracy")
    if (used == "accuracy") != (task != "regression"):
        fitting = "'mse', 'mae' or a function" if task == "regression" else "'accuracy' or a function"
        raise ValueError(f"Expected a metric of a {task} task: {fitting}. Received: metric={used!r}.")
    values = judged.values
    if used == "mae":
        rows = (np.asarray(a, np.float64).reshape(len(scores), -1) for a in (y, scores))
        values = np.abs(np.subtract(*rows)).mean(axis=1)
    logits = bool((scores < 0).any() or (scores > 1).any()) if task == "binary" else None
    return values, {"task": task, "from_logits": logits, "metric": used}


def _is_binary(values: np.ndarray) -> bool:
    return values.dtype.kind in "biuf" and bool(((values == 0) | (values == 1)).all())
