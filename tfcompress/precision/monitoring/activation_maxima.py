"""What the layers of a model return while it is called: their largest values, and whether they are finite."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops, tree
from keras.layers import Layer

from tfcompress.core.keras_private import flatten_layers, sublayers
from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.graph.inputs.symbolic import graph_of, is_graph
from tfcompress.graph.naming import nested_name
from tfcompress.precision.monitoring.gradient_capture import trace_state
from tfcompress.precision.policies import HALVES

Tensor = Any


def named_operations(model: keras.Model) -> dict[str, Any]:
    """Return the layers and operations of a model, each once, by the names that `tfc.mixed_precision` gives them.

    Layers in nested models and composite layers are among them, and a composite layer or a subclassed model itself,
    which may compute more than its layers; functional models aren't, nor wrappers: the layer inside is.

    Example:

    >>> block = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")], name="block")
    >>> model = keras.Sequential([keras.Input((4,)), block, keras.layers.Dense(2, name="dense")])
    >>> list(named_operations(model))
    ['block_dense', 'dense']
    """
    reserved = {op.name: op for op in _children(model)} if is_graph(model) else {}
    named: dict[str, Any] = {}
    seen: set[int] = set()

    def visit(container: Any, parents: list[Layer]) -> None:
        for child in _children(container):
            operation = innermost(child)
            if id(operation) in seen:
                continue
            seen.add(id(operation))
            if not is_graph(operation) and not isinstance(operation, keras.layers.InputLayer | Inserted):
                own = reserved.get(operation.name) is child
                taken = set(named) | set(reserved)
                named[operation.name if own else nested_name(operation.name, parents, taken)] = operation
            # A recurrent layer calls its cell in a loop: what the cell does is seen in what the layer returns.
            if isinstance(operation, Layer) and not isinstance(operation, keras.layers.RNN):
                visit(operation, [*parents, operation])

    visit(model, [])
    if not is_graph(model):
        named.setdefault(model.name, model)
    return named


def _children(container: Layer) -> list[Any]:
    return list(graph_of(container).operations if is_graph(container) else sublayers(container))


class Observer:
    """Watches calls of layers, and keeps the largest value and the share of non-finite values of what each returns.

    Args:
        named: As `named_operations` returns it.

    Attributes:
        found: {name: float32 (2,): the largest finite absolute value, and the share that is not finite}, in the order
            in which the layers have returned.
        dtypes: {name: dtype of what the layer returned}.
    """

    def __init__(self, named: dict[str, Any]):
        self.named = named
        self.found: dict[str, Tensor] = {}
        self.dtypes: dict[str, str] = {}

    def add(self, name: str, outputs: Any, dtype: str | None = None) -> None:
        """Take the float tensors of a structure; several of one name count as one.

        Args:
            name: Of the layer.
            outputs: What it returned.
            dtype: What is counted as the dtype; that of the tensor by default.
        """
        for x in tree.flatten(outputs):
            sparse = hasattr(x, "indices") or hasattr(x, "row_splits")
            if not ops.is_tensor(x) or sparse or 0 in x.shape:
                continue
            own = keras.backend.standardize_dtype(x.dtype)
            if not keras.backend.is_float_dtype(own):
                continue
            finite = ops.isfinite(ops.cast(x, dtype or own))
            size = ops.abs(ops.cast(x, "float32"))
            largest = ops.max(ops.where(finite, size, ops.zeros_like(size)))
            found = ops.stack([largest, ops.mean(ops.cast(ops.logical_not(finite), "float32"))])
            self.found[name] = ops.maximum(self.found[name], found) if name in self.found else found
            self.dtypes.setdefault(name, dtype or own)

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Watch the calls that are made in the block."""
        self.found, self.dtypes = {}, {}
        here = trace_state()

        def watch(name: str) -> Callable[[Any], Any]:
            def around(call: Any) -> Any:
                @functools.wraps(call)
                def watched(*args: Any, **kwargs: Any) -> Any:
                    outputs = call(*args, **kwargs)
                    if trace_state() == here:  # in a loop's body it isn't, and nothing gets out of there
                        self.add(name, outputs)
                    return outputs

                return watched

            return around

        with contextlib.ExitStack() as undo:
            for name, operation in self.named.items():
                undo.enter_context(wrapped_call(operation, watch(name)))
            yield


@contextlib.contextmanager
def wrapped_call(operation: Any, around: Callable[[Any], Any]) -> Iterator[None]:
    """Let a layer or operation be called by `around(its call)` for the time of the block."""
    name = "quantized_call" if getattr(operation, "quantization_mode", None) is not None else "call"
    before = vars(operation).get(name)
    object.__setattr__(operation, name, around(getattr(operation, name)))
    try:
        yield
    finally:
        if before is None:
            object.__delattr__(operation, name)
        else:
            object.__setattr__(operation, name, before)


@contextlib.contextmanager
def same_noise(model: keras.Model) -> Iterator[None]:
    """Let dropout in a float32 view of `model` drop what it drops in half precision; enter it before the view.

    TensorFlow draws random numbers of another dtype in another way.
    """

    def around(half: str) -> Callable[[Any], Any]:
        def wrap(call: Any) -> Any:
            @functools.wraps(call)
            def multiplied(inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
                noise = call(ops.ones_like(inputs, dtype=half), *args, **kwargs)
                return inputs * ops.cast(noise, inputs.dtype)

            return multiplied

        return wrap

    multiplicative = (
        keras.layers.Dropout,
        keras.layers.SpatialDropout1D,
        keras.layers.SpatialDropout2D,
        keras.layers.SpatialDropout3D,
        keras.layers.GaussianDropout,
    )
    with contextlib.ExitStack() as undo:
        for layer in flatten_layers(model):
            if isinstance(layer, multiplicative) and layer.compute_dtype in HALVES:
                undo.enter_context(wrapped_call(layer, around(layer.compute_dtype)))
        yield
