"""Which layers are meant, and which of their weights are kernels."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras.layers import Layer

from tfcompress.core.arguments import short
from tfcompress.core.error_messages import told
from tfcompress.core.keras_private import flatten_layers, own_trainable, own_variables
from tfcompress.core.passthrough import innermost
from tfcompress.layers.catalogue import CATALOGUE
from tfcompress.layers.names import is_of_keras, is_registered
from tfcompress.layers.register import kernels_of

Selector = str | re.Pattern[str] | type[Layer]
Layers = Selector | Sequence[Selector] | Callable[[Layer], bool] | None

# Chosen by name and not by rank: the bias of a GRU has two dimensions.
_KERNELS = frozenset(name for traits in CATALOGUE.values() for name in traits.kernels)
_NEVER = ("bias", "gamma", "beta", "alpha", "moving", "scale", "mean", "variance", "count", "seed")


def kernel_positions(layer: Layer) -> list[int]:
    """Return the positions in `layer.weights` of the weights that may be compressed: kernels and embeddings.

    Of a registered layer (`tfcompress.register_layer`) these are the kernels that it was registered with. Of another
    that isn't Keras' own these are the float weights with two or more dimensions that aren't
    called a bias, scale, mean or the like, or what its method `get_prunable_weights()` returns. State, made with
    `trainable=False`, is none; the weights of a layer that is frozen are.

    Example:

    >>> import keras
    >>> lstm = keras.layers.LSTM(3); lstm.build((None, 5, 2))
    >>> [lstm.weights[position].name for position in kernel_positions(lstm)]
    ['kernel', 'recurrent_kernel']
    """
    inner = innermost(layer)
    if hasattr(inner, "get_prunable_weights"):
        chosen = {id(weight) for weight in inner.get_prunable_weights()}
        return [position for position, weight in enumerate(inner.weights) if id(weight) in chosen]
    if isinstance(inner, keras.layers.SpectralNormalization):
        return []  # it divides the kernel by its norm, in place, in every training step
    parts = flatten_layers(inner)
    own = {id(weight) for part in parts if is_of_keras(part) for weight in _direct(part)}
    registered = list(filter(is_registered, parts))
    described = {id(weight) for part in registered for weight in _direct(part)}
    chosen = {id(weight) for part in registered for weight in kernels_of(part)}
    # A weight stays among these where it is frozen.
    learned = {id(weight) for part in parts for weight in own_trainable(part)}
    weights = [(position, weight) for position, weight in enumerate(inner.weights) if id(weight) in learned]
    return [
        position
        for position, weight in weights
        if (id(weight) in chosen if id(weight) in described else _is_kernel(weight, id(weight) in own))
    ]


def _direct(layer: Layer) -> list[keras.Variable]:
    return own_variables(layer)


def _is_kernel(weight: keras.Variable, of_keras: bool) -> bool:
    name = weight.name
    if "float" not in keras.backend.standardize_dtype(weight.dtype) or len(weight.shape) < 2:
        return False
    if of_keras:
        return name in _KERNELS
    return not any(word in _NEVER for word in name.split("_"))


class LayerChoice:
    """Which layers of a model are meant; asked layer by layer, while the model is made again.

    Args:
        layers: `None` for all; a name, a regular expression that a whole name must match, a class of layers, or
            several of these; or a function from a layer to bool.
        argument: What the argument is called in which they were given, for messages.
        strict: Whether a function must return True or False itself, and nothing that is merely true or not.

    Raises:
        TypeError: If `layers` is something else.

    Example:

    >>> import keras
    >>> choice = LayerChoice(["dense", "conv.*"])
    >>> choice.includes(keras.layers.Dense(1, name="dense")), choice.includes(keras.layers.ReLU(name="relu"))
    (True, False)
    >>> choice.check()
    Traceback (most recent call last):
    ...
    ValueError: Expected `layers` to match layers of the model. Received: 'conv.*', which matches none. ...
    """

    def __init__(self, layers: Layers, argument: str = "layers", *, strict: bool = False):
        self.given = layers
        self.argument = argument
        self.strict = strict
        function = callable(layers) and not isinstance(layers, type | Layer)
        self.function: Any = layers if function else None
        self.all = layers is None
        self.patterns: list[Any] = [] if self.all or function else _listed(layers)
        if not all(
            isinstance(pattern, str | re.Pattern) or (isinstance(pattern, type) and issubclass(pattern, Layer))
            for pattern in self.patterns
        ):
            raise TypeError(
                f"Expected `{argument}` to be None, a layer's name, a regular expression, a class of layers, a list of "
                f"these, or a function from a layer to bool. Received: {short(layers)}."
            )
        for pattern in self.patterns:
            try:
                if not isinstance(pattern, type):
                    re.compile(pattern)
            except re.error as error:
                raise ValueError(
                    f"Expected names or regular expressions in `{argument}`. Received: {pattern!r}: {error}."
                ) from error
        self.names: list[str] = []
        self.classes: list[type] = []
        self.chosen = False

    def includes(self, layer: Layer) -> bool:
        """Return whether a layer is meant: by its name, the one it had, or that of a layer it was inside of."""
        names = [layer.name, *getattr(layer, "source_names", ())]
        self.names += names
        kind = type(innermost(layer))
        self.classes.append(kind)
        if self.function is not None:
            wanted = self._asked(layer)
            self.chosen = self.chosen or wanted
            return wanted
        return self.all or any(_matches(pattern, names, [kind]) for pattern in self.patterns)

    def _asked(self, layer: Layer) -> bool:
        """Return what the function says of a layer."""
        try:
            answer = self.function(layer)
            found = bool(answer)
        except Exception as error:
            raise ValueError(
                f"Expected `{self.argument}` to be a function from any layer to True or False. Received: "
                f"{short(self.given)}, which raises {type(error).__name__} for layer {layer.name!r} of class "
                f"{type(innermost(layer)).__name__}: {told(error)}."
            ) from error
        if self.strict and not isinstance(answer, bool | np.bool_):
            raise ValueError(
                f"Expected functions in `{self.argument}` to return True or False. Received: {short(self.given)}, "
                f"which returns {short(answer)} for layer {layer.name!r}."
            )
        return found

    def names_it(self, layer: Layer) -> bool:
        """Return whether a layer is meant by its exact name."""
        return layer.name in self.patterns

    def elsewhere(self, name: str) -> bool:
        """Return whether the layer of a name has a config of its own, where there is one for each layer."""
        return False

    def check(self) -> None:
        """Raise ValueError, with the nearest names, if something given, or a function, has matched no layer."""
        if self.function is not None and self.classes and not self.chosen:
            raise ValueError(
                f"Expected `{self.argument}` to choose layers of the model. Received: {self.given!r}, which is false "
                f"of all {len(self.classes)} that it was asked about. It is given a layer: look at its name and class."
            )
        for pattern in self.patterns:
            if _matches(pattern, self.names, self.classes):
                continue
            if isinstance(pattern, type):
                raise ValueError(
                    f"Expected `{self.argument}` to match layers of the model. Received: {pattern.__name__}, a "
                    f"class of none of them. They are {', '.join(sorted({kind.__name__ for kind in self.classes}))}."
                )
            text = pattern if isinstance(pattern, str) else pattern.pattern
            names = list(dict.fromkeys(self.names))
            inside = [name for name in names if re.search(pattern, name)]
            near = inside[:3] or difflib.get_close_matches(text, names, n=3, cutoff=0.4) or names[:8]
            raise ValueError(
                f"Expected `{self.argument}` to match layers of the model. Received: {text!r}, which matches none. "
                f"Did you mean {' or '.join(map(repr, near))}?"
                + (" A regular expression has to match the whole of a name." if inside else "")
            )


def chooses_layers(value: Any) -> bool:
    """Return whether a value can be nothing but a choice of layers: not data, of which a function takes no argument.

    >>> chooses_layers("dense"), chooses_layers(lambda layer: True), chooses_layers([[1.0]]), chooses_layers(None)
    (True, True, False, False)
    """
    if isinstance(value, str | re.Pattern | type):
        return True
    if isinstance(value, list | tuple | set | frozenset):
        return bool(value) and all(isinstance(entry, str | re.Pattern | type) for entry in value)
    if not callable(value) or isinstance(value, Layer) or hasattr(value, "__iter__") or hasattr(value, "__getitem__"):
        return False
    try:
        inspect.signature(value).bind()
    except (TypeError, ValueError):
        return True
    return False


def _listed(layers: Any) -> list[Any]:
    """Return several selectors, or one, as a list; a list of what is none for anything else."""
    if isinstance(layers, str | re.Pattern | type) or not isinstance(layers, Iterable) or isinstance(layers, Mapping):
        return [layers]
    try:
        return list(layers)
    except Exception:  # an array without dimensions, a closed file
        return [layers]


def _matches(pattern: Selector, names: Sequence[str], kinds: Sequence[type]) -> bool:
    if isinstance(pattern, type):
        return any(issubclass(kind, pattern) for kind in kinds)
    return any(name == pattern or re.fullmatch(pattern, name) is not None for name in names)
