"""One figure of a model, again and again, on the same data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import check_count, short
from tfcompress.core.error_messages import told
from tfcompress.data.model_batches import again
from tfcompress.data.nested_inputs import arrays
from tfcompress.data.reading import called, is_pair, warn_of_weights
from tfcompress.evaluation.evaluate import Evaluation
from tfcompress.evaluation.open_predictor import KerasPredictor
from tfcompress.evaluation.predictor import Arrays
from tfcompress.evaluation.scoring import score

METRICS = {"accuracy": True, "macro_f1": True, "roc_auc": True, "r2": True, "mse": False, "mae": False}
"""What `tfc.evaluate` finds, and whether more of it is better."""

Metric = str | Callable[[Any, Any], float]
Pair = tuple[Any, Any]


class Measure:
    """Runs a model, whose weights may change from call to call, on data and returns one metric.

    Args:
        model: A functional model.
        data: `(x, y)`, arrays as `tfc.evaluate` takes them; or what yields batches `(x, y)`: a list, a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator, whose batches are kept, or a function that
            returns one.
        metric: A key of `METRICS`, for a model with one output; or a function from (y, outputs) to a number of which
            more is better; for several outputs both are dicts by their names.
        batch_size: Samples at once.

    Raises:
        TypeError: If `data` is something else.
        ValueError: If `metric` is unknown or no function, or `batch_size` is below 1.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Softmax()])
    >>> measure = Measure(model, (np.eye(2), np.array([0, 0])), "accuracy")
    >>> measure(), measure.samples
    (0.5, 2)
    """

    def __init__(self, model: keras.Model, data: Any, metric: Metric, batch_size: int = 32):
        if not callable(metric) and (not isinstance(metric, str) or metric not in METRICS):
            raise ValueError(
                f"Expected `metric` to be one of {', '.join(map(repr, METRICS))} or a function (y, outputs) -> float. "
                f"Received: {metric!r}."
            )
        check_count("batch_size", batch_size)
        self.pairs = _passes(data, len(model.inputs))
        self.predictor = KerasPredictor(model)
        self.metric = metric
        self.batch_size = batch_size
        self.samples = 0

    def __call__(self) -> float:
        """Return the metric with the weights as they are now."""
        evaluation = Evaluation(self.predictor, self.batch_size, looks=not self.samples)
        for x, y in self.pairs():
            evaluation.run(*evaluation.check(arrays(x, "x"), arrays(y, "y")))
        self.samples = evaluation.samples
        if not self.samples:
            raise ValueError("Expected at least one batch of data. Received: none.")
        outputs, targets = evaluation.found()
        return self._score(targets, outputs)

    def _score(self, y: Arrays, outputs: Arrays) -> float:
        single = next(iter(outputs)) if len(outputs) == 1 else None
        if callable(self.metric):
            given = (y, outputs) if single is None else (y[single], outputs[single])
            try:
                value = self.metric(*given)
            except Exception as error:
                raise ValueError(
                    "Expected `metric` to be a function (y, outputs) -> float. "
                    f"Received: {short(self.metric)}, which raises {type(error).__name__}: {told(error)}."
                ) from error
            if not isinstance(value, int | float | np.number) or not math.isfinite(value):
                raise ValueError(f"Expected `metric` to return a finite number. Received: {short(value)}.")
            return float(value)
        if single is None:
            raise ValueError(
                f"Expected a function (y, outputs) -> float as `metric` of a model with the outputs {list(outputs)}. "
                f"Received: {self.metric!r}."
            )
        metrics = score(y[single], outputs[single])
        found: float | None = getattr(metrics, self.metric)
        if found is None:
            fitting = [name for name in METRICS if getattr(metrics, name) is not None]
            raise ValueError(
                f"Expected a metric of a {metrics.task} task: {', '.join(map(repr, fitting))}. "
                f"Received: {self.metric!r}."
            )
        return found


def _passes(data: Any, inputs: int) -> Callable[[], Iterator[Pair]]:
    """Return a function that goes through the data once more each time it is called."""
    if isinstance(data, tuple) and (len(data) == 2 or is_pair(data, inputs)):
        return lambda: iter([_pair(data)])
    if isinstance(data, keras.utils.PyDataset):
        return lambda: (_pair(data[i]) for i in range(len(data)))
    if callable(data) and not isinstance(data, Iterable):
        return lambda: map(_pair, _several(called(data)))
    several = _several(again(data))
    return lambda: map(_pair, several)


def _several(data: Any) -> Iterable[Any]:
    if not isinstance(data, Iterable) or isinstance(data, Mapping | str | bytes) or hasattr(data, "dtype"):
        raise _no_batches(data)
    return data


def _no_batches(data: Any) -> TypeError:
    return TypeError(
        "Expected (x, y), or something that yields batches (x, y): a list, a dataset, a generator or a function that "
        f"returns one. Received: data of type {type(data).__name__}."
    )


def _pair(batch: Any) -> Pair:
    if not isinstance(batch, list | tuple) or not 2 <= len(batch) <= 3:
        raise ValueError(f"Expected batches (x, y). Received: one of type {type(batch).__name__}.")
    if len(batch) == 3 and batch[2] is not None:
        warn_of_weights()
    return batch[0], batch[1]
