"""What a model is trained by: the loss that it was compiled with, or the one that its outputs and the data ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

from tfcompress.core.arguments import short
from tfcompress.core.keras_private import loss_weights
from tfcompress.data.dataset import Dataset, Target
from tfcompress.data.splits import Split
from tfcompress.graph.naming import names_of_outputs
from tfcompress.graph.output_activation import last_activation


@dataclasses.dataclass(frozen=True)
class Losses:
    """The losses of several outputs.

    Attributes:
        each: In the order of the model's outputs; `None`: nothing is learnt there.
        weights: Their shares in the sum; `None`: all count alike.
    """

    each: tuple[Any, ...]
    weights: tuple[float, ...] | None = None


def loss_for(model: keras.Model, data: Dataset, flat: keras.Model | None = None) -> Any:
    """Return the loss that a model was compiled with, or else the one that its output and the targets ask for.

    Of several outputs these are `Losses`: each by the rule for one, the compiled ones with their `loss_weights`.

    Args:
        model: That may be compiled.
        data: To train with.
        flat: The model as a flat graph, whose outputs stand for those of a subclassed one; `None`: it isn't one.
    """
    compiled = model.loss if getattr(model, "compiled", False) else None
    graph = model if flat is None or getattr(model, "outputs", None) else flat
    targets = data.targets(names_of_outputs(graph))
    if len(graph.outputs) == 1:
        return _loss_for(graph.outputs[0], targets[0], compiled)
    if compiled is None:
        return Losses(tuple(_loss_for(*both, None) for both in zip(graph.outputs, targets, strict=True)))
    each = zip(graph.outputs, targets, by_output(graph, compiled, "loss"), strict=True)
    weights = loss_weights(model)
    return Losses(
        tuple(None if one is None else _loss_for(output, target, one) for output, target, one in each),
        None if weights is None else tuple(map(_or_one, by_output(graph, weights, "weight of a loss"))),
    )


def by_output(model: Any, given: Any, what: str) -> list[Any]:
    """Return what `compile` takes, one for all outputs or a list or dict of them, for each of a model's outputs.

    Args:
        model: A model, or a flat graph.
        given: That; a dict may leave outputs out, by names of outputs or of the layers that make them.
        what: What it is, for messages.

    Raises:
        ValueError: If there aren't as many as outputs.

    Example:

    >>> x = keras.Input((2,))
    >>> model = keras.Model(x, {"b": keras.layers.Dense(1)(x), "a": keras.layers.Dense(1)(x)})
    >>> by_output(model, {"b": "mse"}, "loss"), by_output(model, "mae", "loss")
    ([None, 'mse'], ['mae', 'mae'])
    """
    count = len(model.outputs)
    for names in (names_of_outputs(model), tuple(model.output_names)) if isinstance(given, Mapping) else ():
        if set(given) <= set(names):
            return [given.get(name) for name in names]
    if isinstance(given, list | tuple) and len(given) == count:
        return list(given)
    if isinstance(given, Mapping | list | tuple):
        raise ValueError(
            f"Expected a {what}, or one for each of the outputs {list(names_of_outputs(model))}. Received: "
            f"{short(given)}."
        )
    return [given] * count


def _or_one(weight: float | None) -> float:
    return 1.0 if weight is None else weight


def _loss_for(output: Any, target: Target, compiled: Any) -> Any:
    logits = last_activation(output) not in ("softmax", "sigmoid")
    if compiled is not None:
        if target.classes is not None and is_categorical(compiled):  # classes of data are whole numbers
            return keras.losses.SparseCategoricalCrossentropy(from_logits=getattr(compiled, "from_logits", logits))
        return compiled
    if target.classes is None:
        return keras.losses.MeanSquaredError()
    if output.shape[-1] == 1:
        return keras.losses.BinaryCrossentropy(from_logits=logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=logits)


def compiled_with(model: keras.Model, data: Dataset, loss: Any) -> dict[str, Any]:
    """Return what `compile` takes beside an optimizer: loss, its weights, and metrics.

    Args:
        model: That is trained; of several outputs all have its structure.
        data: To train with.
        loss: As `loss_for` returns it.
    """
    targets = data.targets(names_of_outputs(model))
    if not isinstance(loss, Losses):
        return {"loss": loss, "metrics": _metrics_for(model.outputs[0], targets[0], loss)}
    each = [_metrics_for(*three) for three in zip(model.outputs, targets, loss.each, strict=True)]
    return {
        "loss": _like_outputs(model, loss.each),
        "metrics": _like_outputs(model, each),
        "loss_weights": None if loss.weights is None else _like_outputs(model, loss.weights),
    }


def targets_like(model: keras.Model, split: Split) -> Split:
    """Return samples whose targets, where they are by name, stand in the structure that the outputs of a model have."""
    if not isinstance(split.y, Mapping):
        return split
    names = names_of_outputs(model)
    return split.retargeted(lambda y: _like_outputs(model, [y[name] for name in names]))


def _like_outputs(model: keras.Model, each: Any) -> Any:
    """Return one thing for each output in the structure of these; a tuple where that is a list, as `tf.data` asks."""
    if isinstance(model.output, Mapping):
        return dict(zip(names_of_outputs(model), each, strict=True))
    return tuple(each)


def _metrics_for(output: Any, target: Target, loss: Any) -> list[keras.metrics.Metric]:
    """Return what is said of an epoch beside the loss: the accuracy of classes, of numbers the mean absolute error."""
    binary = output.shape[-1] == 1
    if target.classes is None or (binary and "crossentropy" not in _name_of(loss).lower()):
        return [keras.metrics.MeanAbsoluteError(name="mae")]
    if binary:
        threshold = 0.0 if getattr(loss, "from_logits", False) else 0.5
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)]
    return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]


def is_categorical(loss: Any) -> bool:
    """Return whether a loss takes one-hot rows."""
    return _name_of(loss) in ("categorical_crossentropy", "CategoricalCrossentropy")


def _name_of(loss: Any) -> str:
    return loss if isinstance(loss, str) else str(getattr(loss, "__name__", type(loss).__name__))
