"""TensorFlow's own functions in a `call` that is opened: each becomes an operation of the graph."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops, tree

Aside = Callable[[bool], contextlib.AbstractContextManager[None]]
"""Makes a block in which calls of layers are taken for those of a `call` that is opened, or not."""

_HERE = threading.local()


@keras.saving.register_keras_serializable(package="tfcompress")
class TensorFlowCall(keras.Operation):
    """A function of TensorFlow in a graph of Keras.

    Args:
        function: Its name behind "tf.".

    Example:

    >>> TensorFlowCall("nn.depth_to_space")(keras.Input((2, 2, 8)), 2).shape
    (None, 4, 4, 2)
    """

    def __init__(self, function: str, *, name: str | None = None):
        super().__init__(name=name)
        self.function = function

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function computes."""
        return _function(self.function)(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"function": self.function, "name": self.name}


def _function(name: str) -> Any:
    import tensorflow as tf

    return functools.reduce(getattr, name.split("."), tf)


def _name(function: Any) -> str | None:
    """Return the name behind "tf." under which a function is found; `None`: it has none."""
    for name in getattr(inspect.unwrap(function), "_tf_api_names", ()):
        with contextlib.suppress(AttributeError):
            if inspect.unwrap(_function(name)) is inspect.unwrap(function):
                return str(name)
    return None


@contextlib.contextmanager
def recording(opens: Callable[[], bool], aside: Aside) -> Iterator[None]:
    """Let each function of TensorFlow that is given a symbolic tensor of Keras be recorded, in this thread.

    Args:
        opens: Returns whether a `call` is being opened; elsewhere such a function fails as it does.
        aside: Makes the block, with `False`, in which it is recorded.
    """
    if keras.backend.backend() == "tensorflow":
        _listen()

    def record(function: str, args: Any, kwargs: dict[str, Any]) -> Any:
        if not opens():
            return None
        with aside(False):
            made = _in_keras(function, args, kwargs)
            if made is not None:
                return made
            return TensorFlowCall(function, name=function.replace(".", "_"))(*args, **kwargs)

    before, _HERE.record = getattr(_HERE, "record", None), record
    try:
        yield
    finally:
        _HERE.record = before


@functools.cache
def _listen() -> None:
    """Ask TensorFlow for the calls that fail, once; where nothing is recorded, they fail as they did."""
    import tensorflow as tf

    base: Any = tf.__internal__.dispatch.GlobalOpDispatcher

    class Recorder(base):
        def handle(self, op: Any, args: Any, kwargs: Any) -> Any:
            record = getattr(_HERE, "record", None)
            if record is None:
                return self.NOT_SUPPORTED
            given = tree.flatten((args, kwargs))
            # A function that is given would call layers where no graph sees it.
            if not any(map(keras.utils.is_keras_tensor, given)) or any(map(inspect.isroutine, given)):
                return self.NOT_SUPPORTED
            name = _name(op)
            made = None if name is None else record(name, args, kwargs)
            return self.NOT_SUPPORTED if made is None else made

    Recorder().register()


def _in_keras(name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return what an operation of Keras makes that is the same, whose integers are known; `None`: there is none."""
    if name not in _SAME:
        return None
    make, names = _SAME[name]
    given = {**dict(zip(names.split(), args, strict=False)), **kwargs}
    given.pop("name", None)
    known = [key for key in names.split() if key in given]
    if len(args) > len(names.split()) or not names.startswith(" ".join(known)) or given.keys() - known:
        return None
    return make(*(given[key] for key in known))


def _concatenated(values: Any, axis: Any) -> Any:
    return ops.concatenate(values, axis=axis) if isinstance(axis, int) else None


def _reshaped(tensor: Any, shape: Any) -> Any:
    sizes = [size if isinstance(size, int) else -1 for size in shape] if isinstance(shape, list | tuple) else [-1, -1]
    return ops.reshape(tensor, sizes) if sizes.count(-1) <= 1 else None


def _transposed(a: Any, perm: Any = None) -> Any:
    return ops.transpose(a, perm) if perm is None or isinstance(perm, list | tuple) else None


def _squeezed(tensor: Any, axis: Any = None) -> Any:
    return None if axis is None else ops.squeeze(tensor, axis)


def _gelu(features: Any, approximate: bool = False) -> Any:
    return ops.gelu(features, approximate=approximate)


_SAME: dict[str, tuple[Callable[..., Any], str]] = {
    "concat": (_concatenated, "values axis"),
    "reshape": (_reshaped, "tensor shape"),
    "transpose": (_transposed, "a perm"),
    "expand_dims": (ops.expand_dims, "input axis"),
    "squeeze": (_squeezed, "input axis"),
    "stack": (ops.stack, "values axis"),
    "nn.relu": (ops.relu, "features"),
    "nn.relu6": (ops.relu6, "features"),
    "nn.gelu": (_gelu, "features approximate"),
    "nn.softmax": (ops.softmax, "logits axis"),
    "math.sigmoid": (ops.sigmoid, "x"),
    "math.tanh": (ops.tanh, "x"),
    "math.add": (ops.add, "x y"),
    "math.subtract": (ops.subtract, "x y"),
    "math.multiply": (ops.multiply, "x y"),
    "math.maximum": (ops.maximum, "x y"),
    "math.minimum": (ops.minimum, "x y"),
    "math.reduce_mean": (ops.mean, "input_tensor axis keepdims"),
    "linalg.matmul": (ops.matmul, "a b"),
}
"""By TensorFlow's first name, with what it calls its arguments."""
