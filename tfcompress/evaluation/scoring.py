"""From predictions to metrics, by scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, ValuesView
from typing import Any, Literal, cast

import numpy as np

from tfcompress.core.arguments import short
from tfcompress.data.array_checks import array_of, check_finite, one_hot_classes
from tfcompress.evaluation.intervals import of_mean
from tfcompress.evaluation.metrics import ClassMetrics, Judged, Metrics

Task = Literal["multiclass", "binary", "regression"]
ClassNames = Sequence[str] | Mapping[str, Any] | None

TASKS = ("multiclass", "binary", "regression")
MAX_ROC_CLASSES = 12
MAX_ROC_POINTS = 200


def score(
    y: np.ndarray,
    scores: np.ndarray,
    *,
    task: str | None = None,
    class_names: Sequence[str] | None = None,
    from_logits: bool | None = None,
) -> Metrics:
    """Judge predictions that are already there.

    Args:
        y: what is right, as in `evaluate`.
        scores: the model's output, (n,), (n, 1), (n, C) or more dimensions with the classes last.
        task: see `evaluate`.
        class_names: see `evaluate`.
        from_logits: see `evaluate`.

    Returns:
        `Metrics` of this one output.

    Raises:
        ValueError: `y` doesn't fit `scores`, or a label isn't a class.

    >>> str(score(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 4.0])))
    'MSE 1.333 [0, 7.07], MAE 0.6667, R2 -1.0000 (3 samples, regression)'
    """
    kind, y, class_names = _prepared(y, scores, task, class_names, from_logits)
    if kind == "regression":
        return _regression(*_numbers(y, scores))
    found = _classes(kind, y, scores, from_logits)
    return _classification(kind, *found, class_names=class_names, samples=len(scores))


def judge(
    y: np.ndarray, scores: np.ndarray, *, task: str | None = None, from_logits: bool | None = None
) -> tuple[Task, Judged]:
    """Return the task and each sample's part in the metrics, without these: a fraction of the time of `score`.

    >>> task, judged = judge(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]))
    >>> task, judged.values
    ('multiclass', array([ True,  True, False]))
    """
    kind, y, _ = _prepared(y, scores, task, None, from_logits)
    if kind == "regression":
        return kind, Judged(_squared_errors(*_numbers(y, scores)))
    labels, predicted, _ = _classes(kind, y, scores, from_logits)
    return kind, _judged(labels, predicted, len(scores))


def _prepared(
    y: np.ndarray,
    scores: np.ndarray,
    task: str | None,
    class_names: Sequence[str] | None,
    from_logits: bool | None,
) -> tuple[Task, np.ndarray, Sequence[str] | None]:
    """Return the task, the targets as it takes them, and the names of classes, where there are any."""
    y = check_finite(array_of(y, "y", strings=True), "y")
    class_names = names_of(class_names)
    if y.dtype.kind == "U":
        y, class_names = _numbered(y, scores, class_names)
    if _is_one_score(scores) and task in (None, "binary") and y.shape == (len(scores), 2):
        classes = one_hot_classes(y)
        y = y if classes is None else classes
    kind = infer_task(y, scores) if task is None else cast(Task, task)
    _check_finite(scores, logits=kind == "multiclass" and from_logits is not False)
    return kind, y, class_names


def _classes(
    task: Task, y: np.ndarray, scores: np.ndarray, from_logits: bool | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the right classes, those that the scores say, and a score of each class."""
    return (_multiclass if task == "multiclass" else _binary)(y, scores, from_logits)


def names_by_output(class_names: Any) -> list[str] | dict[str, list[str] | None] | None:
    """Return names of classes as a list, or as one for each output; raise TypeError as `names_of`."""
    if isinstance(class_names, Mapping):
        return {name: names_of(given) for name, given in class_names.items()}
    return names_of(class_names)


def names_of(class_names: Any) -> list[str] | None:
    """Return names of classes as a list; raise TypeError for what has no order, or isn't several."""
    if class_names is None:
        return None
    if not isinstance(class_names, Sequence | np.ndarray | ValuesView) or isinstance(
        class_names, str | bytes | bytearray | memoryview
    ):
        raise TypeError(f"Expected class_names to be a list of names. Received: class_names={short(class_names)}.")
    return (
        [str(name) for name in np.ravel(class_names)]
        if isinstance(class_names, np.ndarray)
        else list(map(str, class_names))
    )


def _check_finite(scores: np.ndarray, logits: bool) -> None:
    """Raise ValueError for infinite scores; logits may be minus infinity, which says that a class is out."""
    strange = np.isposinf(scores) if logits else np.isinf(scores)
    if strange.any():
        sample = int(np.argwhere(strange)[0][0])
        raise ValueError(
            f"Expected finite outputs. Received: {scores[strange][0]} for sample {sample}. Look for inputs, or "
            "weights, that are too large."
        )


def _numbered(y: np.ndarray, scores: np.ndarray, class_names: Sequence[str] | None) -> tuple[np.ndarray, Sequence[str]]:
    """Return the numbers of classes that are text, and the name of each class."""
    count = scores.shape[-1] if scores.ndim > 1 and scores.shape[-1] > 1 else 2
    found = [str(name) for name in np.unique(y)]
    names = found if class_names is None else [str(name) for name in class_names]
    unknown = [name for name in found if name not in names]
    if len(names) != count or unknown:
        received = f"{unknown[0]!r} in y, which is none of {names}" if unknown else f"{len(names)} in y: {names[:10]}"
        raise ValueError(
            f"Expected the {count} classes of the output by name. Received: {received}. Give class_names, one for each "
            "class in the order of the output, or number the classes 0, 1, 2, ..."
        )
    numbers = {name: place for place, name in enumerate(names)}
    return np.vectorize(numbers.__getitem__, otypes=["int64"])(y), names


def _is_one_score(scores: np.ndarray) -> bool:
    return scores.ndim == 1 or (scores.ndim == 2 and scores.shape[1] == 1)


def infer_task(y: np.ndarray, scores: np.ndarray) -> Task:
    """Return the task that `y` and the output's shape stand for (see `evaluate`).

    >>> infer_task(np.array([0, 2]), np.zeros((2, 3))), infer_task(np.array([0.5, 2.0]), np.zeros((2, 1)))
    ('multiclass', 'regression')
    """
    whole = y.dtype.kind in "biu" or bool(np.all(y == np.rint(y)))
    zero_one = whole and bool(np.isin(y, (0, 1)).all())
    classes = scores.shape[-1] if scores.ndim > 1 else 1
    if classes == 1:
        if whole and set(np.unique(y)) == {-1, 1}:
            raise ValueError(
                "Expected classes 0 and 1 in y. Received: -1 and 1, as hinge losses take them. Number the classes from "
                "0, (y + 1) // 2, or pass task='regression' if these are values."
            )
        return "binary" if zero_one else "regression"
    if y.shape in (scores.shape[:-1], (*scores.shape[:-1], 1)):
        return "multiclass" if whole else "regression"
    if y.shape == scores.shape and zero_one:
        if (y.sum(axis=-1) == 1).all():
            return "multiclass"
        raise ValueError(
            "Expected one-hot rows (one 1 each) or class numbers. Received: rows that "
            "hold several or none. Evaluate each label on its own, or pass task='regression'."
        )
    return "regression"


def _multiclass(
    y: np.ndarray, scores: np.ndarray, from_logits: bool | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = scores.shape[-1] if scores.ndim > 1 else 1
    if count < 2:
        raise ValueError(
            f"Expected an output (n, C > 1) for task='multiclass'. Received: shape {scores.shape}. "
            "One score per sample is task='binary' or 'regression'."
        )
    if y.shape == scores.shape:
        y = y.argmax(axis=-1)
    if y.size != scores.size // count:
        raise ValueError(
            f"Expected y of shape {scores.shape[:-1]} (classes) or {scores.shape} (one-hot). Received: {y.shape}."
        )
    labels = _class_numbers(y, count)
    scores = scores.reshape(-1, count).astype(np.float64)
    logits = not _are_probabilities(scores) if from_logits is None else from_logits
    if logits:
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    return labels, scores.argmax(axis=1), scores


def _binary(y: np.ndarray, scores: np.ndarray, from_logits: bool | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if y.size != scores.size:
        raise ValueError(f"Expected y of shape {scores.shape} for task='binary'. Received: {y.shape}.")
    labels = _class_numbers(y, 2)
    positive = scores.reshape(-1).astype(np.float64)
    logits = bool((positive < 0).any() or (positive > 1).any()) if from_logits is None else from_logits
    # Sigmoid is monotonic: the curve of the logits is the curve of the probabilities, without their rounding.
    predicted = (positive > (0.0 if logits else 0.5)).astype(int)
    return labels, predicted, np.stack([-positive, positive], axis=1)


def _classification(
    task: Task,
    labels: np.ndarray,
    predicted: np.ndarray,
    scores: np.ndarray,
    *,
    class_names: Sequence[str] | None,
    samples: int,
) -> Metrics:
    from sklearn import metrics

    count = scores.shape[1]
    if class_names is not None and len(class_names) != count:
        raise ValueError(f"Expected {count} class_names, one per class. Received: {len(class_names)}.")
    names = [str(name) for name in class_names] if class_names is not None else [str(i) for i in range(count)]
    numbers = np.arange(count)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=numbers, average=None, zero_division=0
    )
    areas = np.full(count, np.nan)
    curves = {}
    for number_, size in enumerate(support):
        if 0 < size < len(labels):
            areas[number_] = metrics.roc_auc_score(labels == number_, scores[:, number_])
            if count <= MAX_ROC_CLASSES and (task == "multiclass" or number_ == 1):
                curves[names[number_]] = _curve(labels == number_, scores[:, number_])
    defined = areas[~np.isnan(areas)]
    # A class that neither y nor the predictions hold would drag the mean down by a meaningless 0.
    seen = np.union1d(labels, predicted)
    judged = _judged(labels, predicted, samples)
    low, high = of_mean(judged.values) or (math.nan, math.nan)
    return Metrics(
        task=task,
        samples=len(labels),
        accuracy=float(metrics.accuracy_score(labels, predicted)),
        macro_f1=float(np.mean(f1[seen])),
        roc_auc=float(defined.mean()) if defined.size else math.nan,
        classes=tuple(
            ClassMetrics(name, float(p), float(r), float(f), int(s), float(a))
            for name, p, r, f, s, a in zip(names, precision, recall, f1, support, areas, strict=True)
        ),
        confusion_matrix=metrics.confusion_matrix(labels, predicted, labels=numbers),
        roc_curves=curves,
        interval=None if math.isnan(low) else (low, min(high, 1.0)),
        judged=judged,
    )


def _judged(labels: np.ndarray, predicted: np.ndarray, samples: int) -> Judged:
    """Return whether each sample is right; the predictions of one sample, such as its pixels, depend on each other."""
    right = labels == predicted
    if len(right) != samples:
        return Judged(right.reshape(samples, -1).mean(axis=1))
    return Judged(right, labels, predicted)


def _numbers(y: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the targets and the outputs of a regression, a row for each sample."""
    if tuple(n for n in y.shape[1:] if n > 1) != tuple(n for n in scores.shape[1:] if n > 1):
        raise ValueError(f"Expected y of the output's shape {scores.shape} for regression. Received: {y.shape}.")
    return y.reshape(len(y), -1).astype(np.float64), scores.reshape(len(scores), -1).astype(np.float64)


def _squared_errors(y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    errors: np.ndarray = np.square(y - scores).mean(axis=1)
    return errors


def _regression(y: np.ndarray, scores: np.ndarray) -> Metrics:
    from sklearn import metrics

    errors = _squared_errors(y, scores)
    return Metrics(
        task="regression",
        samples=len(y),
        mse=float(metrics.mean_squared_error(y, scores)),
        mae=float(metrics.mean_absolute_error(y, scores)),
        r2=float(metrics.r2_score(y, scores)) if len(y) > 1 else math.nan,
        interval=of_mean(errors),
        judged=Judged(errors),
    )


def _class_numbers(y: np.ndarray, count: int) -> np.ndarray:
    labels = y.reshape(-1)
    if (labels != np.rint(labels)).any() or labels.min() < 0 or labels.max() >= count:
        raise ValueError(
            f"Expected classes 0..{count - 1} in y. Received: values from {labels.min()} to {labels.max()}. "
            "Number the classes from 0, or pass task='regression' if these are values."
        )
    return labels.astype(np.int64)


def _are_probabilities(scores: np.ndarray) -> bool:
    # An int8 softmax has steps of 1/256: each class may be half a step off.
    slack = max(1e-2, scores.shape[1] / 512)
    sums = scores.sum(axis=1)
    return bool((scores >= -1e-6).all() and (scores <= 1 + 1e-6).all() and (np.abs(sums - 1) <= slack).all())


def _curve(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn import metrics

    false_rate, true_rate, _ = metrics.roc_curve(positive, scores)
    if len(false_rate) > MAX_ROC_POINTS:
        keep = np.unique(np.linspace(0, len(false_rate) - 1, MAX_ROC_POINTS).round().astype(int))
        false_rate, true_rate = false_rate[keep], true_rate[keep]
    return false_rate, true_rate
