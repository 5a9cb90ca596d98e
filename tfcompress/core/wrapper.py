"""The one idea: a layer wrapper that carries a chain of weight transforms, with all their state in variables."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.keras_private import (
    call_context,
    context_of_its_own,
    flatten_layers,
    own_state,
    own_trainable,
    set_layout,
)
from tfcompress.core.passthrough import PassThrough
from tfcompress.core.replicas import layout_like, not_distributed
from tfcompress.core.transform import Encoded, Projection, Tensor, WeightTransform, carried, read

Transforms = Sequence[tuple[int, WeightTransform]]


class _Pass:
    """A forward pass that is under way: a shared layer, called twice, counts one step and sees the same weights."""

    def __init__(self) -> None:
        self.updated: set[Any] = set()  # groups of transforms
        self.values: dict[int, dict[int, Tensor]] = {}  # by the wrapper's `id`


_passes: weakref.WeakKeyDictionary[Any, _Pass] = weakref.WeakKeyDictionary()

# All built wrappers, in the order in which they were built.
_wrappers: weakref.WeakSet[CompressedLayer] = weakref.WeakSet()
_serial = itertools.count()

# What wrappers see of their weights, by the wrapper's `id` and the weight's position, where it was computed before.
_materialized: contextvars.ContextVar[Mapping[int, dict[int, Tensor]] | None] = contextvars.ContextVar(
    "materialized", default=None
)


class _Scope(keras.StatelessScope):
    """A stateless scope that sees what the scope around it sees, and remembers what is assigned in it."""

    def __init__(self, mapping: Sequence[tuple[keras.Variable, Tensor]]):
        super().__init__(state_mapping=mapping, collect_losses=True)
        self.assigned: dict[int, keras.Variable] = {}

    def __enter__(self) -> _Scope:
        super().__enter__()
        if self.original_scope is not None:  # on JAX the innermost scope alone counts
            outer: dict[int, Tensor] = self.original_scope.state_mapping
            self.state_mapping: dict[int, Tensor] = {**outer, **self.state_mapping}
        return self

    def add_update(self, update: tuple[keras.Variable, Tensor]) -> None:
        self.assigned[id(update[0])] = update[0]
        super().add_update(update)


@keras.saving.register_keras_serializable(package="tfcompress")
class CompressedLayer(PassThrough):
    """Calls a layer with transformed weights; the weights themselves stay trainable variables of the layer.

    Nothing but a forward pass with `training=True` is needed to keep the transforms' state: it is updated
    there, once for each call of the outermost model, however often that model calls this layer.

    Args:
        layer: The layer, built or not.
        transforms: Pairs of the position of a weight in `layer.weights` and its transform. A weight's
            transforms are applied in the order in which they stand here. Of a layer that isn't built, a function from
            the built layer to these.

    Example:

    >>> import keras, numpy as np
    >>> import tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="dense")])
    >>> pruned = tfc.prune(model, 0.5)
    >>> type(pruned.get_layer("dense")).__name__
    'CompressedLayer'
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        transforms: Transforms | Callable[[keras.layers.Layer], Transforms],
        **kwargs: Any,
    ):
        super().__init__(layer, **kwargs)
        self._choose = transforms if callable(transforms) else None
        self.transforms = _pairs(() if callable(transforms) else transforms)

    def get_config(self) -> dict[str, Any]:
        """Return the serialized layer and the serialized transforms.

        Raises:
            ValueError: If these aren't known, since the layer isn't built.
        """
        if self._choose is not None:
            raise ValueError(
                f"Expected a built layer, whose weights are known. Received: {self.name!r}, whose transforms are "
                "chosen when it is built. Build the model first: give it an input shape, or call it once."
            )
        transforms = [
            [position, keras.saving.serialize_keras_object(transform)] for position, transform in self.transforms
        ]
        return {**super().get_config(), "transforms": transforms}

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the arguments, beside the layer, of a wrapper like this one; its transforms are new ones."""
        fresh = [(position, type(t).from_config(t.get_config())) for position, t in self.transforms]
        return {**super().constructor_arguments(), "transforms": self._choose or fresh}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> CompressedLayer:
        """Make the wrapper, its layer and its transforms from `get_config`'s result."""
        config = dict(config)
        load = keras.saving.deserialize_keras_object
        layer = load(config.pop("layer"), custom_objects=custom_objects)
        transforms = [
            (position, load(transform, custom_objects=custom_objects))
            for position, transform in config.pop("transforms")
        ]
        return cls(layer, transforms, **config)

    def build(self, input_shape: Any = None) -> None:
        """Create the transforms' state for the weights of the layer inside."""
        if self._choose is not None:
            self.transforms, self._choose = _pairs(self._choose(self.layer)), None
        weights = self.layer.weights
        self.step = self._add_state("step", (), "int32", "zeros")
        for position, transform in self.transforms:
            name = f"{weights[position].name}_{type(transform).__name__.lower()}"
            transform.build(
                weights[position],
                lambda suffix, *args, name=name, weight=weights[position], **how: self._add_state(
                    f"{name}_{suffix}", *args, like=weight, **how
                ),
            )
        if keras.backend.backend() == "tensorflow":
            # JAX drops what an optimizer assigns beyond its own variables, and so can't project.
            for position in sorted({position for position, _ in self.transforms}):
                weight = weights[position]
                weight.constraint = Projection(weight.constraint, self.chain(position))
        self.built = True
        self.register()

    def register(self) -> None:
        """Let a forward pass know of this wrapper, which is built."""
        self.serial = next(_serial)
        _wrappers.add(self)

    def _inner_is_built(self) -> bool:
        last = max((position for position, _ in self.transforms), default=-1)
        return bool(self.layer.built) and last < len(self.layer.weights)

    def _add_state(
        self,
        name: str,
        shape: Any,
        dtype: str,
        initializer: Any,
        *,
        overwrite_with_gradient: bool = False,
        trainable: bool = False,
        like: keras.Variable | None = None,
    ) -> keras.Variable:
        # Of what is trained the optimizer sums gradients over replicas.
        aggregation = "none" if trainable else "mean" if overwrite_with_gradient else "only_first_replica"
        layout = layout_like(self.layer.weights[0] if like is None and self.layer.weights else like, shape)
        with contextlib.nullcontext() if layout is None else not_distributed():
            variable = self.add_weight(
                name=name,
                shape=shape,
                dtype=dtype,
                initializer=initializer,
                trainable=trainable or overwrite_with_gradient,
                overwrite_with_gradient=overwrite_with_gradient,
                autocast=False,
                aggregation=aggregation,
            )
        if layout is not None:
            set_layout(variable, layout)
            variable.assign(variable.value)
        return variable

    @property
    def state(self) -> list[keras.Variable]:
        """The variables of the wrapper itself: the step and the state of each transform."""
        return [*own_state(self), *own_trainable(self)]

    def take_state(self, other: CompressedLayer) -> None:
        """Take over the state of a wrapper whose transforms are among this one's, in the same order.

        What has another shape here, as scales of channels where there is one for all, is left as it is.
        """
        known = _numbered(other.state)
        for key, new in _numbered(self.state).items():
            if key in known and tuple(known[key].shape) == tuple(new.shape):
                new.assign(carried(known[key], new))

    def chain(self, position: int) -> list[WeightTransform]:
        """Return the transforms of one weight, in the order in which they are applied."""
        return [transform for at, transform in self.transforms if at == position]

    def transformed(self, training: bool = False) -> dict[int, Tensor]:
        """Return, for the position of each transformed weight, the value that the layer sees."""
        known = None if training else _materialized.get()
        if known is not None and id(self) in known:
            return known[id(self)]
        scale = self._loss_scale() if training else None
        weights = self.layer.weights
        values: dict[int, Tensor] = {}
        for position, transform in self.transforms:
            value = values.get(position)
            value = ops.convert_to_tensor(weights[position].value) if value is None else value
            values[position] = transform.apply_in_training(value, scale) if training else transform.apply(value)
        return values

    def encoded(self) -> dict[int, np.ndarray | Encoded]:
        """Return, for the position of each transformed weight, what a file stores of what the layer sees."""
        found: dict[int, np.ndarray | Encoded] = {}
        for position, transform in self.transforms:
            value = found[position] if position in found else read(self.layer.weights[position])
            found[position] = transform.encode(value)
        return found

    def value_before(self, transform: WeightTransform) -> Tensor:
        """Return the value that reaches one of this wrapper's transforms."""
        position = next(at for at, other in self.transforms if other is transform)
        value = ops.convert_to_tensor(self.layer.weights[position].value)
        for other in self.chain(position):
            if other is transform:
                break
            value = other.apply(value)
        return value

    def update(self, peers: Sequence[CompressedLayer] = (), done: set[Any] | None = None) -> None:
        """Count one training step and update the state of the transforms.

        Args:
            peers: The wrappers in which other members of a transform's group may be, in the model's order.
            done: What has been updated in this step; groups are added to it and not updated again.
        """
        done = set() if done is None else done
        step = ops.convert_to_tensor(self.step.value)
        for _, transform in self.transforms:
            if transform.group is None:
                type(transform).update([(transform, partial(self.value_before, transform))], step)
            elif transform.group not in done:
                done.add(transform.group)
                members = [
                    (member, partial(peer.value_before, member))
                    for peer in (peers or [self])
                    for _, member in peer.transforms
                    if member.group == transform.group
                ]
                type(transform).update(members, step)
        self.step.assign(step + 1)

    def _loss_scale(self) -> Tensor | None:
        """Return what the optimizer of the outermost model multiplies the loss by, if it does and that is known."""
        optimizer = getattr(call_context(self).entry_layer, "optimizer", None)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            scale = optimizer.dynamic_scale.value if optimizer.built else optimizer.initial_scale
            return ops.cast(ops.convert_to_tensor(scale), "float32")
        return None

    def _values_in_training(self) -> dict[int, Tensor]:
        """Update the state, in the first call of a forward pass of the outermost model; return what the layer sees.

        Later calls see the same tensors, whose gradients are then those of all calls together.
        """
        with keras.StatelessScope() as probe:
            outer = probe.original_scope
        # On JAX a forward pass is one stateless scope, which knows the variables of the model; on
        # TensorFlow it is one call context, which knows the outermost layer.
        context = call_context(self) if outer is None else outer
        this = _passes.setdefault(context, _Pass())
        if id(self) not in this.values:
            if outer is None:
                peers = wrapped_layers(context.entry_layer)
            else:
                peers = [w for w in sorted(_wrappers, key=lambda w: w.serial) if id(w.step) in outer.state_mapping]
            self.update(peers, this.updated)
            this.values[id(self)] = self.transformed(training=True)
        return this.values[id(self)]

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Call the layer with transformed weights."""
        values = self._values_in_training() if training else self.transformed()
        return self.called_with(values, inputs, *args, training=training, **kwargs)

    def called_with(self, values: Mapping[int, Tensor], inputs: Any, *args: Any, training: Any, **kwargs: Any) -> Any:
        """Call the layer with values in place of some of its weights, by their positions."""
        weights = self.layer.weights
        mapping = [(weights[position], value) for position, value in values.items()]
        with _Scope(mapping) as scope, context_of_its_own():
            outputs = self.layer(inputs, *args, **self._inner_kwargs(kwargs, training))
        for variable in scope.assigned.values():  # seeds, batch-norm statistics, states, metrics
            variable.assign(scope.get_current_value(variable))
        for loss in scope.losses:
            if scope.original_scope is None:
                self.add_loss(loss)
            else:
                scope.original_scope.add_loss(loss)
        return outputs


def _pairs(transforms: Transforms) -> list[tuple[int, WeightTransform]]:
    return [(int(position), transform) for position, transform in transforms]


def _numbered(variables: Sequence[keras.Variable]) -> dict[tuple[str, int], keras.Variable]:
    """Return variables by their names, numbered where several have one: weights of parts of a layer do."""
    counts: dict[str, int] = {}
    found = {}
    for variable in variables:
        counts[variable.name] = counts.get(variable.name, 0) + 1
        found[variable.name, counts[variable.name]] = variable
    return found


def wrapped_layers(model: keras.layers.Layer) -> list[CompressedLayer]:
    """Return the built wrappers of a model (or the layer itself if it is one), each once."""
    return [layer for layer in flatten_layers(model) if isinstance(layer, CompressedLayer) and layer.built]


@contextlib.contextmanager
def materialized(wrappers: Sequence[CompressedLayer], values: Sequence[dict[int, Tensor]]) -> Iterator[None]:
    """Let wrappers see, in inference in the block, weights that were transformed before.

    What runs batch after batch with the same weights then computes none of the transforms.

    Args:
        wrappers: Those of a model.
        values: What `transformed` returned of each.
    """
    token = _materialized.set(dict(zip(map(id, wrappers), values, strict=True)))
    try:
        yield
    finally:
        _materialized.reset(token)
