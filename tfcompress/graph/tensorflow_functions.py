"""TensorFlow's own functions in a `call` that is opened: each becomes an operation of the graph."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import keras
from keras import ops, tree

from tfcompress.core.tensorflow_private import public_names
from tfcompress.graph.addition import added, ambiguous, shape_of

Aside = Callable[[bool], contextlib.AbstractContextManager[None]]
"""Makes a block in which calls of layers are taken for those of a `call` that is opened, or not."""

_HERE = threading.local()


@keras.saving.register_keras_serializable(package="tfcompress")
class TensorFlowCall(keras.Operation):
    """A function of TensorFlow in a graph of Keras.

    Args:
        function: Its name behind "tf.", of those that compute with tensors alone: a file that names another, one that
            deletes files for example, is not to run it.

    Raises:
        ValueError: If there is no such function.

    Example:

    >>> TensorFlowCall("nn.depth_to_space")(keras.Input((2, 2, 8)), 2).shape
    (None, 4, 4, 2)
    """

    def __init__(self, function: str, *, name: str | None = None):
        super().__init__(name=name)
        _function(function)
        self.function = function

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function computes."""
        return _function(self.function)(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Return shape and dtype of what the function returns."""

        def dense(x: Any) -> Any:  # Keras takes the product of a tensor and a numpy array for sparse
            return keras.KerasTensor(x.shape, x.dtype) if keras.utils.is_keras_tensor(x) else x

        return super().compute_output_spec(*tree.map_structure(dense, args), **tree.map_structure(dense, kwargs))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"function": self.function, "name": self.name}


_SPACES = ("", "math", "nn", "linalg", "signal", "image", "bitwise")
_MODULES = (
    *("array_ops", "array_ops_stack", "math_ops", "nn_ops", "nn_impl", "clip_ops", "special_math_ops", "bincount_ops"),
    *("data_flow_ops", "embedding_ops", "linalg_ops", "linalg_impl", "manip_ops", "sort_ops", "bitwise_ops"),
    *("image_ops_impl", "image_ops", "dct_ops", "fft_ops", "mel_ops", "mfcc_ops", "reconstruction_ops", "shape_ops"),
    *("spectral_ops", "window_ops"),
)
"""Those of TensorFlow's modules that compute with tensors; none runs Python, reads or writes files."""


@functools.cache
def _functions() -> dict[str, Any]:
    """Return {name: function} of all that may be called."""
    import tensorflow as tf

    found = {}
    for space in _SPACES:
        for name, function in vars(getattr(tf, space) if space else tf).items():
            module = str(getattr(function, "__module__", ""))
            computes = module.rpartition(".")[2].removeprefix("gen_") in _MODULES and "code" not in name
            if computes and module.startswith("tensorflow.python.ops.") and inspect.isroutine(function):
                found[f"{space}.{name}" if space else name] = function
    return found


def _function(name: str) -> Any:
    if name not in _functions():
        raise ValueError(f"Expected a function of TensorFlow that computes with tensors alone. Received: {name!r}.")
    return _functions()[name]


def _name(function: Any) -> str | None:
    """Return the name behind "tf." under which a function is found; `None`: it has none."""
    for name in public_names(function):
        with contextlib.suppress(ValueError):
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


@contextlib.contextmanager
def sums_recorded(opens: Callable[[], bool], aside: Aside) -> Iterator[None]:
    """Let `x + y` of symbolic tensors in a `call` that is opened be what TensorFlow makes of it, not Keras.

    Args:
        opens: As for `recording`.
        aside: As for `recording`.
    """
    plus, plus_reversed = keras.KerasTensor.__add__, keras.KerasTensor.__radd__

    def add(x: Any, y: Any) -> Any:
        if not opens() or not ambiguous(shape_of(x), shape_of(y)):
            return plus(x, y)
        with aside(False):
            return _added(x, y)

    def add_reversed(y: Any, x: Any) -> Any:
        if not opens() or not ambiguous(shape_of(x), shape_of(y)):
            return plus_reversed(y, x)
        with aside(False):
            return _added(x, y)

    with (
        mock.patch.object(keras.KerasTensor, "__add__", add),
        mock.patch.object(keras.KerasTensor, "__radd__", add_reversed),
    ):
        yield


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


def _added(x: Any, y: Any) -> Any:
    return added(x, y, TensorFlowCall("math.add", name="add"))


def _concatenated(values: Any, axis: Any) -> Any:
    return ops.concatenate(values, axis=axis) if isinstance(axis, int) else None


def _reshaped(tensor: Any, shape: Any) -> Any:
    sizes = [size if isinstance(size, int) else -1 for size in shape] if isinstance(shape, list | tuple) else [-1, -1]
    return ops.reshape(tensor, sizes) if sizes.count(-1) <= 1 else None


def _transposed(a: Any, perm: Any = None) -> Any:
    return ops.transpose(a, perm) if perm is None or isinstance(perm, list | tuple) else None


def _gelu(features: Any, approximate: bool = False) -> Any:
    return ops.gelu(features, approximate=approximate)


def _leaky(features: Any, alpha: float = 0.2) -> Any:
    return ops.leaky_relu(features, negative_slope=alpha) if isinstance(alpha, int | float) else None


def _sizes(tensor: Any) -> Any:
    """Return the sizes of a tensor: numbers where they are known, so that what is made of them is known too."""
    if None not in tensor.shape:
        return list(tensor.shape)
    made = TensorFlowCall("shape", name="shape")(tensor)
    return [made[axis] if size is None else size for axis, size in enumerate(tensor.shape)]


_SAME: dict[str, tuple[Callable[..., Any], str]] = {
    "shape": (_sizes, "input"),
    "unstack": (lambda value: value if isinstance(value, list) else None, "value"),  # of sizes
    "concat": (_concatenated, "values axis"),
    "reshape": (_reshaped, "tensor shape"),
    "transpose": (_transposed, "a perm"),
    "expand_dims": (ops.expand_dims, "input axis"),
    "squeeze": (ops.squeeze, "input axis"),
    "stack": (ops.stack, "values axis"),
    "nn.leaky_relu": (_leaky, "features alpha"),
    "nn.relu": (ops.relu, "features"),
    "nn.relu6": (ops.relu6, "features"),
    "nn.gelu": (_gelu, "features approximate"),
    "nn.softmax": (ops.softmax, "logits axis"),
    "math.sigmoid": (ops.sigmoid, "x"),
    "math.tanh": (ops.tanh, "x"),
    "math.add": (_added, "x y"),
    "math.subtract": (ops.subtract, "x y"),
    "math.multiply": (ops.multiply, "x y"),
    "math.maximum": (ops.maximum, "x y"),
    "math.minimum": (ops.minimum, "x y"),
    "math.reduce_mean": (ops.mean, "input_tensor axis keepdims"),
    "linalg.matmul": (ops.matmul, "a b"),
}
"""By TensorFlow's first name, with what it calls its arguments."""
