"""Statistics of gradients from data, before a model is pruned: streamed through a copy of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.layers import Layer

from tfcompress.data import arrays, check_finite, one_hot_classes, parts
from tfcompress.messages import told
from tfcompress.pruning.config import PruneConfig
from tfcompress.pruning.statistics import GATHERED, Gathering
from tfcompress.quantization.batches import check_batch_size
from tfcompress.replicas import not_distributed
from tfcompress.surgery import kernel_positions, rebuild
from tfcompress.surgery.loss_scaling import policy_of_layers
from tfcompress.surgery.widening import widened
from tfcompress.transform import WeightTransform, read
from tfcompress.wrapper import with_transforms, wrapped_layers

Gathered = dict[tuple[str, int], dict[str, np.ndarray]]
"""By (layer's name, weight's position): {name of a statistic: its value}."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What statistics are gathered from before a model is pruned.

    Attributes:
        data: `(x, y)` arrays or an iterable of batches, or `None`.
        loss: As for `compile`, or `None`.
        batch_size: Samples in a batch of arrays.
        loss_weights: As for `compile`, or `None`.
    """

    data: Any
    loss: Any
    batch_size: int = 32
    loss_weights: Any = None


def check_evidence(config: PruneConfig, evidence: Evidence, at_once: bool = False) -> None:
    """Raise ValueError if a criterion lacks what it looks at, or is given what it doesn't.

    Args:
        config: What is pruned and when.
        evidence: For the statistics.
        at_once: Whether the model is pruned without any training.
    """
    data, loss = evidence.data, evidence.loss
    check_batch_size(evidence.batch_size)
    if data is not None and not isinstance(data, Iterable) and not hasattr(data, "__getitem__") and not callable(data):
        raise ValueError(
            f"Expected `data` to be arrays, or an iterable of batches. Received: data of type {type(data).__name__}."
        )
    needed = [name for name in config.needs if name != "scale"]
    named = f"criterion={config.criterion!r}" if isinstance(config.criterion, str) else "this criterion"
    if data is not None and not needed:
        raise ValueError(
            f"Expected data=None, since {named} looks at weights alone. Received: data of type {type(data).__name__}."
        )
    if "activation_frequency" in needed and data is None:
        raise ValueError(
            f"Expected `data` with {named}: inputs on which units fire or don't. Received: data=None. Give an array of "
            "samples, or an iterable of batches."
        )
    if not any(name in GATHERED for name in needed):
        return
    if data is not None and loss is None:
        raise ValueError(
            f"Expected a loss with {named}, whose gradients are gathered from `data`. Received: loss=None and a model "
            "that isn't compiled. Give `loss`, such as keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
        )
    if data is not None and config.schedule.regrows:
        raise ValueError("Expected data=None with a schedule that regrows: it follows the gradients of training.")
    early = not config.schedule.regrows and bool(ops.convert_to_numpy(config.schedule.updates(0)))
    if data is None and (at_once or early):
        raise ValueError(
            f"Expected `data` and `loss` with {named} where masks are computed before any gradient is known. Received: "
            + ("no data." if at_once else f"no data, and {config.schedule!r}, which begins at step 0.")
            + " Give both"
            + (
                "."
                if at_once
                else ", or a schedule with a later begin_step, so that gradients are gathered in training."
            )
        )


class _Gatherer(WeightTransform):
    """Leaves a weight as it is, and sums up its statistics."""

    def __init__(self, names: Sequence[str]):
        self.gathering = Gathering(names, decay=1.0, guarded=False)

    def build(self, weight: keras.Variable, add_state: Callable[..., keras.Variable]) -> None:
        self.gathering.build(tuple(weight.shape), add_state)

    def apply(self, value: Any) -> Any:
        return value

    def apply_in_training(self, value: Any, loss_scale: Any = None) -> Any:
        return self.gathering.watched(value, ops.ones(value.shape, "bool"), loss_scale)

    @classmethod
    def update(cls, members: Sequence[tuple[WeightTransform, Callable[[], Any]]], step: Any) -> None:
        for member, _ in members:
            if isinstance(member, _Gatherer):
                member.gathering.collect()


@not_distributed()  # the last batch may have too few samples for all devices
def gather_gradients(model: keras.Model, names: Sequence[str], evidence: Evidence) -> Gathered:
    """Return the statistics that come from gradients, summed over the batches of data.

    Args:
        model: A built model; a copy of it runs, in float32 and in training mode, and is not trained.
        names: Of `GATHERED`.
        evidence: Its data are `(x, y)`, or an iterable of batches that are such pairs.

    Raises:
        ValueError: If there is no batch, or a statistic becomes NaN or infinite; the message names the layer.
    """

    def wrap(layer: Layer) -> Layer:
        found = [(position, _Gatherer(names)) for position in kernel_positions(layer)]
        return with_transforms(layer, found) if found else layer

    # In float16 the loss is scaled, at first by too much: steps that overflow are there to be skipped.
    half = policy_of_layers(model) is not None
    copy = rebuild(widened(rebuild(model)) if half else model, wrap)
    copy.compile(
        keras.optimizers.SGD(0.0),  # at a rate of 0 nothing is trained
        evidence.loss,
        loss_weights=evidence.loss_weights,
        auto_scale_loss=False,
    )
    count = 0
    for batch in _pairs(evidence.data, evidence.batch_size):
        if not isinstance(batch, list | tuple) or len(batch) not in (2, 3):
            raise ValueError(
                f"Expected batches of (inputs, targets). Received: {type(batch).__name__}. Give data=(x, y) or an "
                "iterable of such pairs."
            )
        batch = _checked(batch, evidence.loss)  # noqa: PLW2901
        try:
            copy.train_on_batch(*batch)
        except Exception as error:
            raise ValueError(
                f"Expected data and a loss that go with the model. Received: loss={evidence.loss!r}, on which a "
                f"batch failed: {told(error)}. Check the shapes and the range of the targets."
            ) from error
        count += 1
    if not count:
        raise ValueError("Expected data with at least one batch. Received: an empty iterable.")
    gathered: Gathered = {}
    for layer in wrapped_layers(copy):
        for position, gatherer in layer.transforms:
            if isinstance(gatherer, _Gatherer):
                gatherer.gathering.collect()
                gathered[layer.name, position] = {name: read(x) for name, x in gatherer.gathering.values.items()}
    broken = [key[0] for key, found in gathered.items() if not all(np.isfinite(x).all() for x in found.values())]
    if broken:
        raise ValueError(
            f"Expected finite gradients. Received: NaN or infinite ones in layer {broken[0]!r}. Look at the data and "
            "the loss (tfcompress gives them to the model as they are)."
        )
    return gathered


def _pairs(data: Any, batch_size: int) -> Iterator[Any]:
    """Yield the batches of `(x, y)` arrays, or of an iterable of batches as they are."""
    if not isinstance(data, tuple):
        yield from parts(data, 0)
        return
    data = tuple(arrays(part, what) for part, what in zip(data, ("x", "y", "sample weights"), strict=False))
    sizes = {len(array) for array in keras.tree.flatten(data)}
    if len(sizes) != 1:
        raise ValueError(f"Expected arrays with as many samples each. Received: {sorted(sizes)} samples.")
    for start in range(0, sizes.pop(), batch_size):
        yield keras.tree.map_structure(lambda x, start=start: x[start : start + batch_size], data)


def _checked(batch: Sequence[Any], loss: Any) -> tuple[Any, ...]:
    """Return a batch whose numbers are finite, one-hot rows for a loss that takes classes made classes."""
    x, y, *rest = (arrays(part, what) for part, what in zip(batch, ("x", "y", "sample weights"), strict=False))
    for what, part in (("x", x), ("y", y)):
        for array in keras.tree.flatten(part):
            if array.dtype.kind != "U":
                check_finite(array, what)
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    if name in ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy") and isinstance(y, np.ndarray):
        classes = one_hot_classes(y)
        y = y if classes is None else classes
    return (x, y, *rest)
