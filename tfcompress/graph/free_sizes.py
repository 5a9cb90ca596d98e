"""Sizes that a graph leaves free, where a `call` computes with them: `ops.tile(token, (ops.shape(x)[0], 1, 1))`."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops, tree
from keras.layers import Layer

from tfcompress.core.keras_private import producing_node
from tfcompress.core.passthrough import innermost
from tfcompress.layers.names import is_of_keras

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


class FreeSize:
    """A size that is known when the model runs; arithmetic with it gives another one.

    Attributes:
        terms: `("size", tensor, axis)`, or the sign of an operation and two sizes.
    """

    def __init__(self, *terms: Any):
        self.terms = terms

    def __repr__(self) -> str:
        """Return how it would be written."""
        kind, first, second = self.terms
        return f"shape(x)[{second}]" if kind == "size" else f"({first} {kind} {second})"

    def _needed(self, *_: Any) -> Any:
        raise TypeError(f"it needs the number behind {self}, a size that is free")

    __bool__ = __index__ = __int__ = __float__ = __len__ = __iter__ = _needed
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _needed
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __divmod__ = __rdivmod__ = _needed
    __hash__ = object.__hash__
    dtype = property(_needed)


def _computes(sign: str, reverse: bool) -> Callable[[FreeSize, Any], Any]:
    def compute(self: FreeSize, other: Any) -> Any:
        if not isinstance(other, int | FreeSize):
            return NotImplemented
        return FreeSize(sign, other, self) if reverse else FreeSize(sign, self, other)

    return compute


for _name, _sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("floordiv", "//"), ("mod", "%")):
    setattr(FreeSize, f"__{_name}__", _computes(_sign, reverse=False))
    setattr(FreeSize, f"__r{_name}__", _computes(_sign, reverse=True))


@keras.saving.register_keras_serializable(package="tfcompress")
class Sized(Layer):
    """A function of `keras.ops` that is given sizes which are known when the model runs.

    Args:
        function: Its name in `keras`, such as "ops.tile", of those in keras.ops and keras.random: a file that names
            another, which could be any function that Keras reaches, is not to run it.
        given: Its positional arguments and its keywords; a tensor of the inputs is `["tensor", place]`, a size
            `["size", place, axis]` or an operation on two such or numbers, as `["*", size, 2]`, in a dict
            `{"unknown": ...}`.

    Raises:
        ValueError: If there is no such function.

    Example:

    >>> layer = Sized("ops.zeros", [[[{"unknown": ["size", 0, 0]}, 3]], {}])
    >>> tuple(layer([ops.ones((5, 2))]).shape)
    (5, 3)
    """

    def __init__(self, function: str, given: Any, **kwargs: Any):
        super().__init__(**{**kwargs, "autocast": False})
        if not any(function == path for named in _ops().values() for path, _ in named.values()):
            raise ValueError(f"Expected a function of keras.ops or keras.random. Received: {function!r}.")
        self.function = function
        self.given = given

    def call(self, inputs: Any) -> Any:
        """Return what the function makes."""
        args, kwargs = _filled(self.given, inputs)
        return functools.reduce(getattr, self.function.split("."), keras)(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "function": self.function, "given": self.given}


def _filled(value: Any, inputs: Any) -> Any:
    if isinstance(value, dict) and "unknown" in value:
        return _computed(value["unknown"], inputs)
    if isinstance(value, dict):
        return {key: _filled(entry, inputs) for key, entry in value.items()}
    return [_filled(entry, inputs) for entry in value] if isinstance(value, list | tuple) else value


def _computed(terms: Any, inputs: Any) -> Any:
    if not isinstance(terms, list | tuple):
        return terms
    kind, first, *second = terms
    if kind == "tensor":
        return inputs[first]
    if kind == "size":
        return ops.shape(inputs[first])[second[0]]
    return _ARITHMETIC[kind](_computed(first, inputs), _computed(second[0], inputs))


def _free_sizes(arguments: Any) -> list[FreeSize]:
    return [x for x in tree.flatten(arguments) if isinstance(x, FreeSize)]


def _with_one_left_out(x: Any, sizes: list[Any]) -> tuple[Any, ...] | None:
    """Return sizes to reshape a tensor to, the only one that isn't known as -1; None: several aren't."""
    sizes = [-1 if size is None else size for size in sizes]
    known = [size for size in sizes if isinstance(size, int) and size != -1]
    unknown = [size for size in sizes if isinstance(size, int) and size == -1]
    if len(known) == len(sizes) - 1:
        return tuple(size if isinstance(size, int) else -1 for size in sizes)
    first = sizes[0]
    batch = isinstance(first, FreeSize) and first.terms[0] == "size" and first.terms[2] == 0 and _as_many(x, first)
    rest = x.shape[1:]
    if not batch or len(known) != len(sizes) - 2 or not unknown or x.shape[0] is not None or None in rest:
        return None
    left, over = divmod(math.prod(rest), math.prod(known) or 1)
    return None if over else (-1, *(size if size != -1 else left for size in sizes[1:]))


def _as_many(x: Any, size: FreeSize) -> bool:
    """Return whether a tensor surely has as many samples as that which a size is taken of."""
    while x is not size.terms[1]:
        node = producing_node(x)
        inner, before = innermost(node.operation), node.input_tensors
        if not isinstance(inner, keras.layers.Layer) or not is_of_keras(inner):
            return False
        if isinstance(inner, keras.Model) or len(before) != 1:
            return False
        x = before[0]
    return True


def _recorded(name: str, arguments: Any, make: Callable[[Sized, list[Any]], Any]) -> Any:
    """Return what a function gives that is called with free sizes, from a layer in the graph."""
    tensors: list[Any] = []

    def place(x: Any) -> int:
        found = next((at for at, tensor in enumerate(tensors) if tensor is x), None)
        if found is None:
            tensors.append(x)
        return len(tensors) - 1 if found is None else found

    def written(size: Any) -> Any:
        if not isinstance(size, FreeSize):
            return size
        kind, first, second = size.terms
        return [kind, place(first), second] if kind == "size" else [kind, written(first), written(second)]

    def noted(x: Any) -> Any:
        if isinstance(x, FreeSize):
            return {"unknown": written(x)}
        if keras.utils.is_keras_tensor(x):
            return {"unknown": ["tensor", place(x)]}
        if x is None or isinstance(x, bool | int | float | str):
            return x
        raise TypeError(f"{name} is given a size that is free, and {type(x).__name__}")

    args, kwargs = tree.map_structure(noted, arguments, none_is_leaf=False)
    return make(Sized(name, [list(args), kwargs]), tensors)


def _ops() -> dict[Any, dict[str, tuple[str, Callable[..., Any]]]]:
    """Return {module: {name: (path, function)}} of what takes sizes."""
    modules = {"ops": keras.ops, "ops.numpy": keras.ops.numpy, "ops.image": keras.ops.image, "random": keras.random}
    return {
        module: {name: (f"{path}.{name}", f) for name, f in vars(module).items() if _is_function(name, f)}
        for path, module in modules.items()
    }


def _is_function(name: str, f: Any) -> bool:
    return callable(f) and not isinstance(f, type) and not name.startswith("_")


@contextlib.contextmanager
def free_sizes_recorded(on: Callable[[], bool], make: Callable[[Sized, list[Any]], Any]) -> Iterator[None]:
    """While `on()`, let `keras.ops.shape` give free sizes as such, and put what is made of them into the graph.

    Args:
        on: Whether a `call` is being traced.
        make: Calls a new layer with tensors of the graph.
    """

    def shape(original: Callable[..., Any], x: Any) -> Any:
        sizes = original(x)
        if not on() or not keras.utils.is_keras_tensor(x):
            return sizes
        return tuple(FreeSize("size", x, axis) if size is None else size for axis, size in enumerate(sizes))

    def taking(path: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not on() or not _free_sizes((args, kwargs)):
                return original(*args, **kwargs)
            if path.endswith(".reshape") and keras.utils.is_keras_tensor(args[0]):
                sizes = args[1] if len(args) > 1 else kwargs["newshape"]
                known = _with_one_left_out(args[0], list(sizes if isinstance(sizes, list | tuple) else [sizes]))
                if known is not None:
                    return original(args[0], known)
            return _recorded(path, (args, kwargs), make)

        return call

    functions = [(module, name, path, f) for module, named in _ops().items() for name, (path, f) in named.items()]
    try:
        for module, name, path, f in functions:
            setattr(module, name, functools.partial(shape, f) if path == "ops.shape" else taking(path, f))
        yield
    finally:
        for module, name, _, f in functions:
            setattr(module, name, f)
