"""Where a layer of your own is added: `register_layer` says what it is to pruning, quantization and the exporters."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from typing import Any, TypeVar, overload

import keras
from keras.layers import Layer

from tfcompress.core.arguments import short
from tfcompress.layers.catalogue import CATALOGUE
from tfcompress.layers.names import NAMES, described_class, is_keras, plain_name
from tfcompress.layers.traits import VALUES, KernelAxes, LayerTraits

L = TypeVar("L", bound=type[Layer])

_PREFIX = "registered:"
"""How the names begin of what is registered with traits of its own."""


@overload
def register_layer(cls: L, *, like: type[Layer] | str | None = None, traits: LayerTraits | None = None) -> L: ...


@overload
def register_layer(
    cls: None = None, *, like: type[Layer] | str | None = None, traits: LayerTraits | None = None
) -> Callable[[L], L]: ...


def register_layer(cls: Any = None, *, like: type[Layer] | str | None = None, traits: LayerTraits | None = None) -> Any:
    """Say what a layer of your own computes, so that it gets what a layer of Keras gets.

    That is: masks on its kernels and the removal of its channels, quantized weights with a scale for each channel,
    integers in both formats, its multiplications in the costs, a precision of its own in mixed precision, and a row in
    the summary. It holds for classes derived from `cls` too, as long as they add nothing to what it computes. Say it
    where the class is made, so that it holds wherever a saved model is loaded; it goes with
    `keras.saving.register_keras_serializable`.

    Args:
        cls: A class derived from `keras.layers.Layer`; left out where this is used as a decorator.
        like: The layer of Keras, or registered one, that it computes the same as in inference: a class, or its name
            such as "Dense". The layer has that one's attributes, such as `kernel`, `bias`, `activation` and `units` of
            a Dense, `None` for a bias or activation that isn't there; a property that can be set will do. Where
            channels are removed `units` (or `filters`) of a copy is set, which is built again. That it computes so is
            tried on random data.
        traits: What is to be said of a layer that is like none of Keras'; in place of `like`.

    Returns:
        The class itself.

    Raises:
        TypeError: If `cls` is no class of layers.
        ValueError: If it is Keras' own, or registered as something else; if `like` is unknown; if not one of `like` and
            `traits` is given; or if traits contradict each other.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> @tfc.register_layer(like="Dense")
    ... class Linear(keras.layers.Layer):
    ...     activation = None
    ...     def __init__(self, units, **kwargs):
    ...         super().__init__(**kwargs)
    ...         self.units = units
    ...     def build(self, shape):
    ...         self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
    ...         self.bias = self.add_weight(shape=(self.units,), name="bias")
    ...     def call(self, x):
    ...         return keras.ops.matmul(x, self.kernel) + self.bias
    >>> model = keras.Sequential([keras.Input((8,)), Linear(4, name="linear")])
    >>> quantized = tfc.quantize(model, "int8", np.random.default_rng(0).normal(size=(64, 8)))
    >>> [(row.layer, row.status) for row in tfc.summary(quantized).rows if row.weight]
    [('linear_linear', 'int8 per channel')]
    """
    if (like is None) == (traits is None):
        raise ValueError(
            f"Expected either `like`, such as like='Dense', or `traits`. Received: like={like!r}, traits={traits!r}."
        )
    if cls is None:
        return lambda made: register_layer(made, like=like, traits=traits)
    _check_class(cls)
    if like is not None:
        name = _name_of(like)
    else:
        assert traits is not None
        check_traits(traits)
        known = NAMES.get(cls, "")
        name = known if CATALOGUE.get(known) == traits else f"{_PREFIX}{cls.__module__}.{cls.__qualname__}:{len(NAMES)}"
    if NAMES.get(cls, name) != name:
        raise ValueError(
            f"Expected a class that isn't registered as something else. Received: {cls.__name__}, which is "
            f"{NAMES[cls]!r} already. Register it once, where it is made."
        )
    if traits is not None:
        CATALOGUE[name] = traits
    NAMES[cls] = name
    return cls


def _check_class(cls: Any) -> None:
    if not isinstance(cls, type) or not issubclass(cls, Layer) or issubclass(cls, keras.Model):
        what = "which is none"
        if isinstance(cls, Layer):
            what = "an instance: give its class"
        elif isinstance(cls, type) and issubclass(cls, keras.Model):
            what = "a model: register the classes of its layers"
        raise TypeError(f"Expected a class derived from keras.layers.Layer. Received: {short(cls)}, {what}.")
    if is_keras(cls):
        raise ValueError(
            f"Expected a class of your own. Received: keras.layers.{cls.__name__}, which is Keras'. Derive one from "
            "it, and register that."
        )


def _name_of(like: Any) -> str:
    """Return the name in the catalogue of what a layer is said to be like."""
    if isinstance(like, type) and like in NAMES:
        return NAMES[like]
    known = {
        name: cls.__name__
        for cls in vars(keras.layers).values()
        if isinstance(cls, type)
        and (name := plain_name(cls)) in CATALOGUE
        and not issubclass(cls, keras.layers.Wrapper)
    }
    keras_class = isinstance(like, type) and is_keras(like)
    name = plain_name(like) if keras_class else like.lower().replace("_", "") if isinstance(like, str) else ""
    if name in known:
        return name
    given = like.__name__ if isinstance(like, type) else str(like)
    near = difflib.get_close_matches(given, known.values(), n=3, cutoff=0.5)
    raise ValueError(
        f"Expected `like` to be a layer of Keras that tfcompress knows, or a registered one. Received: {short(like)}. "
        + (f"Did you mean {' or '.join(near)}? If not, describe" if near else "Describe")
        + " the layer with traits=tfcompress.LayerTraits(...)."
    )


_OF_ANY: dict[str, tuple[str, ...]] = {
    "channels": ("unknown", "unary", "nary", "local", "global_pooling"),
    "quantization": ("float", "kernel", "integer", "transparent"),
    "multiplications": ("unknown", "none", "dense", "convolution", "transposed", "recurrent"),
    "decomposition": ("",),
}
"""The values of traits that say all there is to say; what the others mean is read from attributes of Keras' layers."""


def check_traits(traits: Any) -> None:
    """Raise TypeError or ValueError unless traits are of known values and go together."""
    if not isinstance(traits, LayerTraits):
        raise TypeError(f"Expected `traits` to be tfcompress.LayerTraits(...). Received: {short(traits)}.")
    for trait, values in VALUES.items():
        value, allowed = getattr(traits, trait), _OF_ANY.get(trait, values)
        if callable(value) and trait == "multiplications":
            continue
        if value not in values:
            raise ValueError(f"Expected {trait} to be one of {', '.join(map(repr, allowed))}. Received: {value!r}.")
        if value not in allowed:
            raise ValueError(
                f"Expected {trait} to be one of {', '.join(map(repr, allowed))} with traits. Received: {value!r}, "
                "which needs the attributes of one of Keras' layers. Take `like` in place of `traits`."
            )
    for name, axes in traits.kernels.items():
        if not isinstance(axes, KernelAxes) and not callable(axes):
            raise TypeError(f"Expected KernelAxes(...) for kernel {name!r}. Received: {short(axes)}.")
        if isinstance(axes, KernelAxes) and set(axes.inputs) & set(axes.outputs):
            raise ValueError(
                f"Expected other axes for the inputs than for the outputs of kernel {name!r}. Received: {axes}."
            )
    contradictions = {
        "quantization='kernel' without kernels": traits.quantization == "kernel" and not traits.kernels,
        "quantization='kernel' with several kernels, between which nothing would be quantized": traits.quantization
        == "kernel"
        and len(traits.kernels) > 1,
        f"quantization={traits.quantization!r} with kernels": traits.quantization in ("integer", "transparent")
        and bool(traits.kernels),
        f"channels={traits.channels!r} with kernels, whose axes these channels may be": traits.channels != "unknown"
        and bool(traits.kernels),
        "homogeneous=True without channels that stay apart ('unary', 'local', 'global_pooling')": traits.homogeneous
        and traits.channels not in ("unary", "local", "global_pooling"),
        "output_range without quantization='integer'": traits.output_range is not None
        and traits.quantization != "integer",
        "sizes of what isn't in kernels": not {kernel for kernel, _ in traits.sizes.values()} <= set(traits.kernels),
    }
    found = [said for said, holds in contradictions.items() if holds]
    if found:
        raise ValueError(f"Expected traits that go together. Received: {'; '.join(found)}. Leave one of them out.")


def kernels_of(layer: Any) -> list[keras.Variable]:
    """Return the kernels of a built layer of a registered class.

    Raises:
        ValueError: If it isn't what its class was registered as: it lacks an attribute, or it has weights that its
            traits don't speak of.
    """
    cls = described_class(layer)
    assert cls is not None
    name = NAMES[cls]
    traits, said = CATALOGUE[name], f"layer {layer.name!r} of class {type(layer).__name__}"
    missing = [wanted for wanted in (*traits.kernels, *traits.sizes, *traits.attributes) if not hasattr(layer, wanted)]
    if missing:
        raise ValueError(
            f"Expected a layer registered like {name!r} to have its attributes. Received: {said}, without "
            f"{', '.join(map(repr, missing))}. Make each an attribute or a property (None for a bias or activation "
            "that isn't there), or describe the class with traits=tfcompress.LayerTraits(...)."
        )
    kernels = {kernel: getattr(layer, kernel) for kernel in traits.kernels}
    for kernel, weight in kernels.items():
        if not any(weight is own for own in layer.weights) or len(weight.shape) < 2:
            raise ValueError(
                f"Expected {kernel!r} to be a weight of two or more dimensions. Received: {said}, in which it is "
                f"{short(weight)}. Register the class with its own kernels in `traits`."
            )
    for size, (kernel, axis) in traits.sizes.items():
        if getattr(layer, size) != kernels[kernel].shape[axis]:
            raise ValueError(
                f"Expected {size!r} to be as many as {kernel!r} has channels along axis {axis}. Received: {said}, with "
                f"{getattr(layer, size)!r} and a kernel of shape {tuple(kernels[kernel].shape)}. "
                "Correct the attribute, or register the class with `traits`."
            )
    large = [weight.name for weight in layer.weights if math.prod(weight.shape) > 1]
    if name.startswith(_PREFIX) and traits.channels != "unknown" and large:
        raise ValueError(
            f"Expected a layer with channels={traits.channels!r} to have no weights but single numbers, since channels "
            f"may be removed from what it is called with. Received: {said}, with {', '.join(large)}. Leave `channels` "
            "out of its traits."
        )
    return list(kernels.values())
