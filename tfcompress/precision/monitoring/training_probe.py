"""One batch through a model as in a training step, of which nothing stays but what was seen."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfcompress.core.keras_private import (
    compute_loss,
    flatten_layers,
    losses_set_aside,
    seed_generators,
    takes_training,
)
from tfcompress.graph.index import index_of
from tfcompress.graph.inputs.symbolic import is_graph
from tfcompress.precision.monitoring.activation_maxima import Observer, named_operations, same_noise
from tfcompress.precision.monitoring.gradient_capture import compiled, value_and_gradients
from tfcompress.precision.policies import HALVES
from tfcompress.tracing.float32_view import float32_view

Tensor = Any

INPUT = "(input)"
"""What the row of a model's input is called, its name behind it where there are several."""

NOISE = 2.0**-21
"""A gradient that is smaller than this share of the largest of its tensor is but what float32 rounds off: 4 units."""


@dataclasses.dataclass(frozen=True)
class LayerReading:
    """What was seen of one layer in one batch.

    Attributes:
        layer: Its name.
        policy: Name of its dtype policy.
        dtype: Of what it returned; empty if that wasn't seen.
        largest: Largest finite absolute value that it returned; `None`: not seen.
        nonfinite: Share of infinite values and NaN in what it returned.
        weights: Number of its trainable weights that have a gradient.
        underflow: Share of their gradients that are 0 in half precision and not in float32; `None`: not known.
        overflow: Share of their gradients that are infinite or NaN; `None`: not known.
    """

    layer: str
    policy: str
    dtype: str = ""
    largest: float | None = None
    nonfinite: float = 0.0
    weights: int = 0
    underflow: float | None = None
    overflow: float | None = None


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was seen in one batch.

    Attributes:
        scale: What the loss was multiplied by.
        layers: One `LayerReading` each, in the order in which they have returned.
        diverged: Whether the loss isn't finite in float32 either; `None`: not known.
    """

    scale: float
    layers: tuple[LayerReading, ...]
    diverged: bool | None = None


class Probe:
    """Computes activations and gradients of a model; no variable of it moves, and no loss or seed.

    Gradients are those of the loss of `model.compute_loss` without the regularizers of weights, whose own gradients
    are computed in float32 and would hide that those of the loss are gone.

    Args:
        model: Built and compiled, with the optimizer built.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.named = named_operations(model)
        self.observer = Observer(self.named)
        self.seen: list[str] = []
        self.halved = any(layer.compute_dtype in HALVES for layer in flatten_layers(model))
        # What a model's own train_step minimizes isn't known.
        self.has_gradients = type(model).train_step is keras.Model.train_step
        optimizer = [] if model.optimizer is None else model.optimizer.variables
        known = {
            id(v): v
            for v in (
                *model.trainable_variables,
                *model.non_trainable_variables,
                *model.metrics_variables,
                *optimizer,
            )
        }
        trainable = {id(v) for v in model.trainable_variables if not getattr(v, "overwrite_with_gradient", False)}
        self.trained = [v for key, v in known.items() if key in trainable]
        self.others = [v for key, v in known.items() if key not in trainable]
        states = {id(seed.state) for layer in flatten_layers(model) for seed in seed_generators(layer)}
        self.seeds = [place for place, v in enumerate(self.others) if id(v) in states]
        self.drawn: list[Any] | None = None
        self.owners = self._owners()
        wrap = compiled if not model.run_eagerly else (lambda function: function)
        self._half, self._full = wrap(self._half_pass), wrap(self._full_pass)

    def __call__(self, batch: Any, scale: float, reference: bool = True, again: bool = False) -> Reading:
        """Run a batch.

        Args:
            batch: As `model.train_step` takes it: inputs, targets and weights of samples.
            scale: What the loss is multiplied by.
            reference: Whether to compute the gradients in float32 too, without which it isn't known which underflow.
            again: Whether this is the batch of the step that has just run, and that step's dropout is wanted.
        """
        values = [ops.convert_to_tensor(v.value) for v in self.trained]
        others = [ops.convert_to_tensor(v.value) for v in self.others]
        multiplier = np.float32(scale)
        batch = tree.map_structure(lambda x: x if x is None else ops.convert_to_tensor(x), batch)
        if again and self.seeds:
            if self.drawn is None:
                self.drawn = _numpy(self._half(values, others, multiplier, batch)[3])
            for place, drawn in zip(self.seeds, self.drawn, strict=True):
                others[place] = others[place] - ops.convert_to_tensor(drawn, dtype=others[place].dtype)
        found, overflow, slopes, drawn = self._half(values, others, multiplier, batch)
        self.drawn = _numpy(drawn)
        activations = dict(zip(self.seen, _numpy(found), strict=True))
        lost: Any = None
        diverged = None
        if reference and self.halved and self.has_gradients:
            lost, loss = self._full(values, others, multiplier, batch, slopes)
            lost, diverged = _numpy(lost), not np.isfinite(_numpy(loss))
        readings = self._merge(activations, None if overflow is None else _numpy(overflow), lost)
        return Reading(float(scale), tuple(readings), diverged)

    # The two passes ----------------------------------------------------------------------------------

    def _half_pass(self, values: Sequence[Tensor], others: Sequence[Tensor], scale: Tensor, batch: Any) -> Any:
        """Return what was seen, how many values of each gradient aren't finite, these, and how far seeds moved."""

        def run(function: Callable[[Any], Tensor], values: Sequence[Tensor]) -> tuple[Tensor, Any]:
            with self._at(values, others) as scope, self.observer.attached():
                result = function(batch)
            drawn = [scope.get_current_value(self.others[place]) - others[place] for place in self.seeds]
            return result, (self._take(), drawn)

        with _untouched(self.model):
            if not self.has_gradients:
                found, drawn = run(self._predict, values)[1]
                return found, None, None, drawn
            _, (found, drawn), slopes = value_and_gradients(
                lambda values: run(lambda batch: self._loss(batch) * scale, values), values
            )
            return found, [_count(ops.logical_not(ops.isfinite(slope))) for slope in slopes], slopes, drawn

    def _take(self) -> list[Tensor]:
        """Return what the observer has found, and note the names; none of these tensors outlives the tracing."""
        self.seen = list(self.observer.found)
        found = list(self.observer.found.values())
        self.observer.found = {}
        return found

    def _full_pass(
        self, values: Sequence[Tensor], others: Sequence[Tensor], scale: Tensor, batch: Any, slopes: Sequence[Tensor]
    ) -> Any:
        """Return how many values of each gradient are 0 in `slopes` and not in float32, and the loss in float32."""

        def loss_of(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            with self._at(values, others):
                loss = self._loss(batch)
            return loss * scale, loss

        with _untouched(self.model), same_noise(self.model), float32_view(self.model):
            _, loss, wanted = value_and_gradients(loss_of, values)
        return [_lost(ours, theirs) for ours, theirs in zip(slopes, wanted, strict=True)], loss

    def _at(self, values: Sequence[Tensor], others: Sequence[Tensor]) -> keras.StatelessScope:
        pairs = [*zip(self.trained, values, strict=True), *zip(self.others, others, strict=True)]
        return keras.StatelessScope(state_mapping=pairs, collect_losses=True)

    def _predict(self, batch: Any) -> Any:
        x = keras.utils.unpack_x_y_sample_weight(batch)[0]
        leaves = tree.flatten(x)
        inputs = getattr(self.model, "inputs", None) or ()
        names = [x.name for x in inputs] if len(inputs) == len(leaves) else list(map(str, range(len(leaves))))
        for name, leaf, cast in zip(names, leaves, self._input_dtypes(len(leaves)), strict=True):
            self.observer.add(INPUT if len(leaves) == 1 else f"{INPUT} {name}", leaf, cast)
        return self.model(x, training=True) if takes_training(self.model) else self.model(x)

    def _input_dtypes(self, count: int) -> list[str | None]:
        """Return what inputs are cast to: by a graph's layers, where all that read one agree, or else by the model."""
        if is_graph(self.model):
            return [_read_in(self.model, x) for x in self.model.inputs]
        return [self.model.compute_dtype if self.model.autocast else None] * count

    def _loss(self, batch: Any) -> Tensor:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        y_pred = self._predict(batch)
        loss = compute_loss(self.model, x, y, y_pred, sample_weight)
        return ops.cast(loss, "float32")

    # By layers ---------------------------------------------------------------------------------------

    def _owners(self) -> list[str]:
        """Return, for each trained variable, the name of the innermost named layer that has it."""
        owner: dict[int, str] = {}
        layers = {name: layer for name, layer in self.named.items() if isinstance(layer, keras.layers.Layer)}
        for name in sorted(layers, key=lambda name: len(list(flatten_layers(layers[name])))):
            for variable in layers[name].trainable_variables:
                owner.setdefault(id(variable), name)
        return [owner.get(id(variable), self.model.name) for variable in self.trained]

    def _merge(self, activations: dict[str, Any], overflow: Any, lost: Any) -> Iterator[LayerReading]:
        sizes = [int(np.prod(v.shape)) for v in self.trained]
        for name in dict.fromkeys([*activations, *(self.owners if self.has_gradients else ())]):
            places = [place for place, owner in enumerate(self.owners) if owner == name and self.has_gradients]
            weights = sum(sizes[place] for place in places)

            def share(counts: Any, places: Sequence[int] = places, weights: int = weights) -> float | None:
                if counts is None or not weights:
                    return None
                return sum(float(counts[place]) for place in places) / weights

            seen = activations.get(name)
            policy = getattr(getattr(self.named.get(name), "dtype_policy", None), "name", "")
            yield LayerReading(
                name,
                policy,
                self.observer.dtypes.get(name, ""),
                None if seen is None else float(seen[0]),
                0.0 if seen is None else float(seen[1]),
                weights,
                share(lost),
                share(overflow),
            )


def _read_in(graph: keras.Model, x: Any) -> str | None:
    """Return the dtype that all readers of a graph's input cast it to; `None` if one takes it as it is."""
    readers = [call.operation for call in dict.fromkeys(index_of(graph).readers(x))]
    layers = [reader for reader in readers if isinstance(reader, keras.layers.Layer) and not is_graph(reader)]
    dtypes = {getattr(layer, "innermost", layer).compute_dtype for layer in layers if layer.autocast}
    alike = len(dtypes) == 1 and len(layers) == len(readers) and all(layer.autocast for layer in layers)
    return dtypes.pop() if alike and keras.backend.is_float_dtype(x.dtype) else None


def _lost(half: Tensor, full: Tensor) -> Tensor:
    """Return how many values of a gradient are 0 in half precision and not in float32."""
    size = ops.abs(full)
    return _count(ops.logical_and(ops.equal(half, 0.0), size > NOISE * ops.max(size)))


def _count(where: Tensor) -> Tensor:
    return ops.sum(ops.cast(where, "float32"))


def _numpy(values: Any) -> Any:
    return tree.map_structure(ops.convert_to_numpy, values)


@contextlib.contextmanager
def _untouched(model: keras.Model) -> Iterator[None]:
    """Let nothing that is assigned in the block stay, and no loss; and leave out the regularizers of weights.

    On TensorFlow a gradient may assign too, such as those that are gathered for pruning: hence the scope around all.
    """
    with contextlib.ExitStack() as undo:
        for layer in flatten_layers(model):
            undo.enter_context(losses_set_aside(layer))
        for variable in model.trainable_variables:
            undo.callback(setattr, variable, "regularizer", variable.regularizer)
            variable.regularizer = None
        undo.enter_context(keras.StatelessScope())
        yield
