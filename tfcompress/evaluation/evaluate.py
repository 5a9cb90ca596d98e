"""Metrics of a model, in whatever file it is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfcompress.core.arguments import check_choice, check_flag, short
from tfcompress.core.names import nearest_names
from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.core.out_of_memory import says_memory
from tfcompress.core.uneven_rows import is_uneven
from tfcompress.data.array_checks import check_finite
from tfcompress.data.model_batches import check_batch_size
from tfcompress.data.reading import joined_inputs, pairs, yields_pairs
from tfcompress.data.unscaled_pixels import warn_of_pixels
from tfcompress.evaluation.metrics import Metrics
from tfcompress.evaluation.open_predictor import KerasPredictor, Source, open_predictor
from tfcompress.evaluation.predictor import DEFAULT_BATCH_SIZE, Arrays, Predictor, name_arrays, predict
from tfcompress.evaluation.scoring import TASKS, ClassNames, names_by_output, score
from tfcompress.targets import Target


@accepts_old_calls(names={"model_or_path": "model", "x": "data"})
@says_memory
def evaluate(
    model: Source,
    data: Any,
    y: Any = None,
    *,
    task: str | Mapping[str, str] | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    class_names: ClassNames = None,
    from_logits: bool | None = None,
    runtime: str | None = None,
    target: str | os.PathLike[str] | Target | None = None,
) -> Metrics:
    """Judge a model's predictions, whatever file it is kept in.

    The task follows from `y` and the output: classes 0..C-1 or one-hot rows against (n, C > 1) scores are
    "multiclass", {0, 1} against one score "binary", all else "regression".

    Args:
        model: a Keras model, or the path of a `.tflite`, a `.onnx` or of what `tfc.load` takes.
        data: inputs, (n, ...): an array, a list in the order of the model's inputs, or a dict by input name; or what
            yields batches of inputs and targets, as `fit` takes them: a `tf.data.Dataset`, a `keras.utils.PyDataset`,
            a generator, or a function that returns one. For the quantized input of a `.tflite`, values of its own
            integer dtype go in as they are, others are quantized.
        y: what is right: (n,) or (n, 1) classes or values, (n, C) one-hot rows, or values of the output's
            shape; classes may be text, which is numbered as `class_names` are, or in the order of the alphabet. For
            several outputs a dict by output name or a list in their order. None: `data` yields it.
        task: "multiclass", "binary" or "regression", where the rule above is wrong; by output name for
            several.
        batch_size: samples at once, where the model leaves that free.
        class_names: one name per class; None: their numbers. With several outputs, for those with as many
            classes; or by output name.
        from_logits: whether classification scores are logits; None: yes if they can't be probabilities.
        runtime: what runs a file: "litert", "onnxruntime", or "tflm" for TFLite Micro; None: that of its format.
        target: what a file is for, as in `tfc.export`: it is run in the runtime that proves such files, and refused if
            it has what the target can't do. None: not said.

    Returns:
        `Metrics`; for a model with several outputs `metrics[output_name]` holds each one's.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the runtime isn't installed.
        ValueError: `data` or `y` doesn't fit the model, a label isn't a class, a prediction is NaN, or the
            target can't run the file.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Softmax()])
        >>> metrics = evaluate(model, np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), np.array([0, 1, 1]))
        >>> round(metrics.accuracy, 3), metrics.confusion_matrix.tolist()
        (0.667, [[1, 0], [1, 1]])
    """
    check_options(task, batch_size, from_logits)
    class_names = names_by_output(class_names)
    evaluation = Evaluation(open_predictor(model, runtime=runtime, target=target), batch_size)
    for x, targets in batches_of(data, y):
        evaluation.run(*evaluation.check(x, targets))
    return evaluation.metrics(task=task, class_names=class_names, from_logits=from_logits)


def batches_of(data: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    """Yield inputs and targets: those of arrays as they are given, of what yields batches one after the other."""
    if y is None:
        yield from pairs(data)
    else:
        yield (joined_inputs(data) if yields_pairs(data) else data), y


def check_options(task: str | Mapping[str, str] | None, batch_size: int, from_logits: bool | None) -> None:
    """Refuse an unknown task or a batch size below 1."""
    if isinstance(task, Mapping) and not task:
        raise ValueError("Expected task to be one for each output. Received: task={}.")
    for value in task.values() if isinstance(task, Mapping) else (task,):
        check_choice("task", value, (None, *TASKS))
    check_batch_size(batch_size)
    if from_logits is not None:
        check_flag("from_logits", from_logits)


def check_targets(predictor: Predictor, named: Mapping[str, np.ndarray], y: Any) -> Any:
    """Return `y` by output name (as given where only a run tells the names), with as many rows as `x`."""
    samples = len(next(iter(named.values())))
    targets = name_arrays(y, predictor.output_names, "output", "y") if predictor.output_names else y
    rows = targets if isinstance(targets, Mapping) else {"": targets}
    for name, value in rows.items():
        count = len(value) if isinstance(value, list | tuple) or np.ndim(value) else 0
        if isinstance(value, np.ndarray):
            check_finite(value, f"y of output {name!r}" if name else "y")
        if count != samples and not is_uneven(named.values()) and (predictor.output_names or isinstance(y, np.ndarray)):
            raise ValueError(
                f"Expected one row of y{f' for output {name!r}' if len(rows) > 1 else ''} per sample of x, "
                f"{samples}. Received: {count} rows. Give x and y of the same samples."
            )
    return targets


class Evaluation:
    """What a model makes of data, batch after batch: outputs and targets are kept, inputs aren't.

    Args:
        predictor: what `open_predictor` gave.
        batch_size: samples at once, where the model leaves that free.
        looks: whether it looks for pixels that the model isn't made for.

    Attributes:
        samples: how many it has seen.
    """

    def __init__(self, predictor: Predictor, batch_size: int = DEFAULT_BATCH_SIZE, looks: bool = True):
        self.predictor, self.batch_size, self.looks = predictor, batch_size, looks
        self.samples = 0
        self._outputs: list[Arrays] = []
        self._targets: list[Arrays] = []

    def check(self, x: Any, y: Any) -> tuple[Arrays, Any]:
        """Return a batch of inputs and targets by name; raise ValueError if they don't fit."""
        named = self.predictor.check(x)
        return named, check_targets(self.predictor, named, y)

    def run(self, named: Arrays, targets: Any) -> None:
        """Run a checked batch."""
        if self.looks and not self.samples and isinstance(self.predictor, KerasPredictor):
            warn_of_pixels(self.predictor.model, list(named.values()))
        outputs = predict(self.predictor, named, self.batch_size, before=self.samples)
        found = name_arrays(targets, tuple(outputs), "output", "y")
        for name, scores in outputs.items() if is_uneven(named.values()) else ():
            if np.shape(found[name])[:1] != scores.shape[:1]:
                raise ValueError(
                    f"Expected one row of y for each of output {name!r}, of shape {scores.shape}. Received: shape "
                    f"{np.shape(found[name])}."
                )
        self.samples += len(next(iter(named.values())))
        self._outputs.append(outputs)
        self._targets.append(found)

    def found(self) -> tuple[Arrays, Arrays]:
        """Return the outputs and the targets of all batches together, by output name."""
        return _joined(self._outputs), _joined(self._targets)

    def metrics(
        self,
        *,
        task: str | Mapping[str, str] | None = None,
        class_names: ClassNames = None,
        from_logits: bool | None = None,
    ) -> Metrics:
        """Return the metrics of all batches together; the arguments are those of `evaluate`."""
        outputs, targets = self.found()
        for what, given in (("task", task), ("class_names", class_names)):
            if isinstance(given, Mapping) and not set(given) <= set(outputs):
                raise ValueError(
                    f"Expected {what} to name outputs: {list(outputs)}. Received: {short(list(given))}."
                    f"{nearest_names(given, outputs)}"
                )
        if len(outputs) == 1:
            name, scores = next(iter(outputs.items()))
            one = task.get(name) if isinstance(task, Mapping) else task
            names = class_names.get(name) if isinstance(class_names, Mapping) else class_names
            return score(targets[name], scores, task=one, class_names=names, from_logits=from_logits)
        found = {}
        for name, scores in outputs.items():
            one = task.get(name) if isinstance(task, Mapping) else task
            if isinstance(class_names, Mapping):
                names = class_names.get(name)
            else:
                names = class_names if class_names and len(class_names) == scores.shape[-1] else None
            try:
                found[name] = score(targets[name], scores, task=one, class_names=names, from_logits=from_logits)
            except ValueError as error:
                raise ValueError(f"Output {name!r}: {error}") from error
        return Metrics(task="multi_output", samples=self.samples, outputs=found)


def _joined(parts: list[Arrays]) -> Arrays:
    first = parts[0]
    return first if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in first}
