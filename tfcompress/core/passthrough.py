"""Wrappers that look like the layer inside: same name, dtypes, shapes and masks."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from tfcompress.core.keras_private import (
    call_signature,
    context_of_its_own,
    has_default_build,
    inbound_nodes,
    producer,
    set_call_signature,
    sublayers,
)
from tfcompress.core.layer_configs import configuration


class Inserted(keras.layers.Layer):
    """A layer that compression puts on a tensor of the graph; stripping takes it out again."""

    def __getattr__(self, name: str) -> Any:
        """Return what the layer before it holds, where this one has the name that was that layer's, as outputs have."""
        if not name.startswith("_") and (nodes := inbound_nodes(self)):
            before = producer(nodes[0].input_tensors[0])
            if before.name == f"{self.name}_linear" and _is_held(before, name):
                return getattr(before, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class PassThrough(keras.layers.Wrapper):
    """A wrapper that looks like the layer inside: same name, dtypes, shapes and masks."""

    temporary = False
    """Whether stripping leaves the layer inside alone."""

    own_arguments: tuple[str, ...] = ()
    """Arguments of the constructor beside the layer, each a plain value in the attribute of its name."""

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any):
        # The layer inside casts for itself; the wrapper reads the float32 variables and casts nothing.
        kwargs = {"name": layer.name, **kwargs, "dtype": "float32", "autocast": False}
        super().__init__(layer, **kwargs)
        self.supports_masking = layer.supports_masking
        set_call_signature(self, _with_keywords_of(layer, inspect.signature(self.call)))

    def __getattr__(self, name: str) -> Any:
        """Return what the layer inside holds: `kernel`, `units`, `activation` and the like, but none of its methods."""
        inner = vars(self).get("layer")
        held = inner is not None and not name.startswith("_") and _is_held(inner, name)
        if not held:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(inner, name)

    @property
    def innermost(self) -> keras.layers.Layer:
        """The layer under all wrappers of this package."""
        return innermost(self.layer)

    def get_config(self) -> dict[str, Any]:
        """Return the serialized layer and the constructor's arguments."""
        layer = configuration(self.layer)
        if has_no_build(self.layer):
            layer.pop("build_config", None)
        return {**PassThrough.constructor_arguments(self), "layer": layer}

    def rewrap(self, layer: keras.layers.Layer) -> PassThrough:
        """Return a wrapper like this one, without its state, around another layer."""
        return type(self)(layer, **self.constructor_arguments())

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the arguments, beside the layer, with which a wrapper like this one is made."""
        config = keras.layers.Layer.get_config(self)
        config.pop("dtype", None)
        return {**config, **{name: getattr(self, name) for name in self.own_arguments}}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer; the first call builds what only a call can build."""
        if not args and kwargs:  # Keras looks at the first tensor, which `call` here takes by position
            first = next(name for name in inspect.signature(self.layer.call).parameters if name in kwargs)
            kwargs = dict(kwargs)
            args = (kwargs.pop(first),)
        if not self.built and not self._inner_is_built():
            with context_of_its_own():  # composite layers make their weights when they are first called
                self.layer(*args, **self._inner_kwargs(kwargs, kwargs.get("training")))
        return super().__call__(*args, **kwargs)

    def build(self, input_shape: Any = None) -> None:
        """Build; the layer inside has been built before (see `__call__` and `build_from_config`)."""
        self.built = True

    def get_build_config(self) -> dict[str, Any]:
        """Return what the layer inside needs to be built again; nothing if only a call can build it."""
        return {} if has_no_build(self.layer) else {"layer": self.layer.get_build_config()}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build the layer inside, then the wrapper."""
        if config.get("layer") and not self.layer.built:
            self.layer.build_from_config(config["layer"])
        if self._inner_is_built():
            self.build()

    def _inner_is_built(self) -> bool:
        return bool(self.layer.built)

    def _inner_kwargs(self, kwargs: dict[str, Any], training: bool | None) -> dict[str, Any]:
        if "training" not in inspect.signature(self.layer.call).parameters:
            return kwargs
        if training is None and not asks_for_training(self.layer):
            return kwargs
        return {**kwargs, "training": training}

    def reset_state(self) -> None:
        """Reset the state of the layer inside, if it is one with a state."""
        if hasattr(self.layer, "reset_state"):
            self.layer.reset_state()

    def compute_output_spec(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Return the specification (shape, dtype) of what the layer inside returns."""
        return self.layer.compute_output_spec(inputs, *args, **self._inner_kwargs(kwargs, training))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of what the layer inside returns."""
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Return the mask that the layer inside returns."""
        return self.layer.compute_mask(inputs, previous_mask)


@keras.saving.register_keras_serializable(package="tfcompress")
class FixedTraining(PassThrough):
    """Calls a layer with `training` pinned, as a subclassed model's `self.base(x, training=False)` does.

    A functional model overrides the `training` of each of its layers; this wrapper keeps it.

    Args:
        layer: The layer to be called.
        pinned: The value of `training` that it is called with.

    Example:

    >>> import keras, numpy as np
    >>> always = FixedTraining(keras.layers.Dropout(0.5, seed=1), pinned=False)
    >>> bool(np.all(always(np.ones((2, 3)), training=True) == 1))
    True
    """

    own_arguments = ("pinned",)

    def __init__(self, layer: keras.layers.Layer, pinned: bool, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.pinned = bool(pinned)

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Call the layer with the pinned value, whatever `training` is."""
        with context_of_its_own():
            return self.layer(inputs, *args, **kwargs, training=self.pinned)


@keras.saving.register_keras_serializable(package="tfcompress")
class AskedTraining(PassThrough):
    """Calls a layer that can't be called without `training`, as one with `call(self, x, training)`, with the model's.

    Where nothing says whether it is training, Keras calls a layer without, and that one would fail. To have the model's
    graph say None doesn't help: from Keras 3.16 on, what the graph says counts, and the model's own value is lost.

    Args:
        layer: The layer to be called.

    Example:

    >>> import keras, numpy as np
    >>> class Doubles(keras.layers.Layer):
    ...     def call(self, x, training):
    ...         return 2 * x if training else x
    >>> asked, ones = AskedTraining(Doubles()), np.ones((1, 1))
    >>> float(asked(ones)[0, 0]), float(asked(ones, training=True)[0, 0])
    (1.0, 2.0)
    """

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Call the layer; `None` is handed over as such."""
        with context_of_its_own():
            return self.layer(inputs, *args, **kwargs, training=training)


def _with_keywords_of(layer: keras.layers.Layer, own: inspect.Signature) -> inspect.Signature:
    """Return the signature of a wrapper's call with the names of the arguments that the layer's call takes.

    Keras refuses an argument that holds tensors beside other values, and takes all that only `**kwargs` catches for
    one. Masks stay there: Keras fills in those that are named, and the layer inside gets its own.
    """
    known = own.parameters
    *positional, last = known.values()
    filled = {"mask", *(f"{name}_mask" for name in call_signature(layer).parameters)}
    named = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in list(call_signature(layer).parameters.values())[1:]
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in {*known, *filled}
    ]
    # What the layer can't do without may have been given by position, which the wrapper's `*args` catches.
    return own.replace(
        parameters=[*positional, *(p.replace(default=None) if p.default is p.empty else p for p in named), last]
    )


def _is_held(layer: keras.layers.Layer, name: str) -> bool:
    """Return whether a name is that of an attribute or a property of a layer, or of those that it wraps."""
    if name in vars(layer) or isinstance(inspect.getattr_static(type(layer), name, None), property):
        return True
    return isinstance(layer, PassThrough) and _is_held(layer.layer, name)


def asks_for_training(layer: keras.layers.Layer) -> bool:
    """Return whether a layer can't be called without `training`, as with `call(self, x, training)`."""
    parameter = inspect.signature(layer.call).parameters.get("training")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def has_no_build(layer: keras.layers.Layer) -> bool:
    """Return whether a layer has no `build` of its own, so that its sublayers are built when it is called."""
    return bool(sublayers(layer)) and has_default_build(layer)


def innermost(operation: Any) -> Any:
    """Return the layer under all wrappers of this package, or the layer or operation itself."""
    return operation.innermost if isinstance(operation, PassThrough) else operation
