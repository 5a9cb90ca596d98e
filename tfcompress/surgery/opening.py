"""Opening a model of any kind into one flat functional graph of new layers."""

from __future__ import annotations

import contextlib
import inspect
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import keras
import numpy as np
from keras import ops, tree
from keras.layers import Layer

from tfcompress.surgery.copying import autocast, copy_layer, has_mask
from tfcompress.surgery.inputs import graph_of, is_graph, new_inputs, random_inputs, recorded_shapes
from tfcompress.surgery.parameters import weights_as_layers
from tfcompress.wrapper import FixedTraining, PassThrough

# Layers of Keras that are plain graphs of layers; all others of Keras' own are left whole.
_COMPOSITE = ("MultiHeadAttention", "GroupedQueryAttention")


def rebuild(model: keras.Model, replace: Callable[[Layer], Layer] = lambda layer: layer) -> keras.Model:
    """Make a model again as one flat functional graph of new layers, some of them replaced.

    Nested models, subclassed models and composite layers are opened: what their `call` does becomes part
    of the graph. Shared layers stay shared, inputs and outputs keep their names and structure, weights are
    carried over, a `training=False` inside a `call` stays pinned, and the given model is left as it was.
    A composite layer that can't be opened is kept whole, as one layer.

    Args:
        model: A built Keras 3 model of any kind.
        replace: Called once for each new layer, built and with its weights; returns the layer to use.

    Returns:
        A functional model, not compiled.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model isn't built, or its `call` can't be opened; the message names the line.

    Example:

    >>> import keras
    >>> block = keras.Sequential([keras.layers.Dense(3, name="inner")], name="block")
    >>> model = keras.Sequential([keras.Input((4,)), block, keras.layers.Dense(2, name="outer")])
    >>> [layer.name for layer in rebuild(model).layers][1:]
    ['inner', 'outer']
    """
    check_built(model)
    return _Opener(model, replace).run()


def check_built(model: Any) -> None:
    """Raise TypeError unless `model` is a Keras model, ValueError unless it is built."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a keras.Model. Received: {model!r} of type {type(model).__name__}.")
    if not model.built or (not is_graph(model) and recorded_shapes(model) is None):
        raise ValueError(
            f"Expected a built model. Received: {type(model).__name__} {model.name!r}, which has no weights yet. "
            "Begin it with a keras.Input, or call it once on a batch of data."
        )


class _FollowsModel:
    """Stands for `training` while a `call` is traced: whatever the model will be called with."""

    branched = False

    def __bool__(self) -> bool:
        # A `call` that branches is taken as in training; that inference agrees is checked with numbers.
        self.branched = True
        return True


class _CannotOpen(Exception):
    """A `call` is no plain graph of layers and operations."""


class _Opener:
    """One walk through a model. Visiting a layer does in the new graph what calling it does in the old."""

    def __init__(self, model: keras.Model, replace: Callable[[Layer], Layer]):
        self.model = model
        self.replace = replace
        self.new_layers: dict[int, tuple[Layer, bool | None]] = {}
        self.new_operations: dict[int, Any] = {}
        self.names: set[str] = set()
        self.reserved: dict[str, Any] = {}
        if is_graph(model):
            self.reserved = {operation.name: operation for operation in graph_of(model).operations}
        # Where the walk is: the layers that are open around it, and what `training` they pin.
        self.parents: list[Layer] = []
        self.pinned: bool | None = None
        self.in_call = False
        self.thread = threading.get_ident()
        self.follows = _FollowsModel()
        self.opened_calls = False

    def run(self) -> keras.Model:
        inputs = new_inputs(self.model)
        self.names.update(x.name for x in tree.flatten(inputs))
        original = Layer.__call__

        def call(layer: Layer, *args: Any, **kwargs: Any) -> Any:
            if self.in_call and threading.get_ident() == self.thread:
                return self.visit(layer, args, kwargs)
            return original(layer, *args, **kwargs)

        with mock.patch.object(Layer, "__call__", call):
            if is_graph(self.model):
                outputs = self.keep_output_names(self.open_graph(self.model, inputs))
            else:
                try:
                    with weights_as_layers(self.model, tree.flatten(inputs)[0]):
                        outputs = self.open_call(self.model, (inputs,), {})
                except _CannotOpen as reason:
                    raise ValueError(str(reason)) from reason.__cause__
        _rename_duplicates(outputs)
        opened = self.model_class()(inputs, outputs, name=self.model.name)
        if self.opened_calls:
            self.check_equal(opened)
        return opened

    def model_class(self) -> Any:
        """Return the class of the new model: a functional model's own steps of training are kept."""
        cls = type(self.model)
        if cls.__module__.startswith("keras."):
            return keras.Model
        if isinstance(self.model, keras.Function) and cls.__init__.__module__.startswith("keras."):
            return cls
        lost = [name for name in ("train_step", "test_step", "compute_loss") if name in vars(cls)]
        if lost:
            warnings.warn(
                f"{cls.__name__} defines {', '.join(lost)}; the functional model that is made of it trains with "
                "Keras' own steps. Train it with a loop of your own if yours are needed.",
                stacklevel=5,
            )
        return keras.Model

    def keep_output_names(self, outputs: Any) -> Any:
        """Add an identity where an output has lost its name, as that of a nested model does."""
        names = iter(graph_of(self.model).output_names)

        def keep(tensor: Any) -> Any:
            name = next(names)
            if tensor._keras_history.operation.name == name:
                return tensor
            return keras.layers.Identity(name=name, dtype=tensor.dtype)(tensor)

        return tree.map_structure(keep, outputs)

    def check_equal(self, opened: keras.Model) -> None:
        """Raise ValueError unless both models compute the same from random data, in inference."""
        if any(keras.backend.standardize_dtype(x.dtype) == "string" for x in opened.inputs):
            return
        data = random_inputs(opened)
        pairs = zip(
            tree.flatten(self.model(data, training=False)),
            tree.flatten(opened(data, training=False)),
            strict=True,
        )
        for old, new in pairs:
            want, got = (np.asarray(ops.cast(x, "float32")) for x in (old, new))
            scale = float(np.max(np.abs(want[np.isfinite(want)]), initial=0.0))
            tolerance = 2e-2 if "16" in str(old.dtype) else 1e-3
            if not np.allclose(want, got, rtol=0, atol=tolerance * scale + 1e-6, equal_nan=True):
                why = "it branches on `training`" if self.follows.branched else "it depends on its data"
                raise ValueError(
                    f"Expected the `call` of {type(self.model).__name__} {self.model.name!r}, opened into a graph, "
                    f"to compute the same. Received: outputs that differ by {np.max(np.abs(want - got)):.3g}; "
                    f"probably {why}. Put that part into a keras.layers.Layer of its own."
                )

    # Visiting --------------------------------------------------------------------------------------

    def visit(self, layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        kwargs = dict(kwargs)
        pinned = self.pinned
        if isinstance(layer, Layer) and "training" in kwargs and (self.in_call or pinned is not None):
            given = kwargs.pop("training")
            if self.in_call and given is not self.follows and given is not None:
                pinned = bool(given)
        if not isinstance(layer, Layer):
            return self.new_operation(layer)(*args, **kwargs)
        if is_graph(layer):
            with self.inside(layer, pinned):
                return self.open_graph(layer, args[0] if args else next(iter(kwargs.values())))
        if _may_open(layer, (args, kwargs)):
            with contextlib.suppress(_CannotOpen), self.inside(layer, pinned):
                return self.open_call(layer, args, kwargs)
        with self.calls_intercepted(False):
            return self.new_layer(layer, pinned, args, kwargs)(*args, **kwargs)

    @contextlib.contextmanager
    def inside(self, layer: Layer, pinned: bool | None) -> Iterator[None]:
        before, self.pinned = self.pinned, pinned
        self.parents.append(layer)
        try:
            yield
        finally:
            self.parents.pop()
            self.pinned = before

    @contextlib.contextmanager
    def calls_intercepted(self, on: bool) -> Iterator[None]:
        before, self.in_call = self.in_call, on
        try:
            yield
        finally:
            self.in_call = before

    def open_graph(self, model: keras.Model, inputs: Any) -> Any:
        """Walk through the nodes of a functional model."""
        graph = graph_of(model)
        flat = tree.flatten(inputs)
        if isinstance(inputs, dict) and not isinstance(graph._inputs_struct, dict):
            flat = [inputs[x.name] for x in graph.inputs]
        flat = [_as_declared(x, declared) for x, declared in zip(flat, graph.inputs, strict=True)]
        with self.calls_intercepted(False):
            return graph._run_through_graph(
                flat, operation_fn=lambda operation: lambda *a, **k: self.visit(operation, a, k)
            )

    def open_call(self, layer: Layer, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run a layer's `call` on symbolic tensors; each layer that it calls is visited."""
        if "training" in inspect.signature(layer.call).parameters:
            kwargs = {**kwargs, "training": self.follows if self.pinned is None else self.pinned}
        args, kwargs = tree.map_structure(lambda x: autocast(layer, x), (args, kwargs))
        try:
            with self.calls_intercepted(True):
                outputs = layer.call(*args, **kwargs)
        except _CannotOpen:
            raise
        except Exception as error:
            raise _CannotOpen(_why(layer, error)) from error
        if not all(keras.utils.is_keras_tensor(x) for x in tree.flatten(outputs)):
            raise _CannotOpen(
                f"Expected the `call` of {type(layer).__name__} {layer.name!r} to return tensors that depend on its "
                f"inputs. Received: {outputs!r}."
            )
        self.opened_calls = True
        return outputs

    # Making ----------------------------------------------------------------------------------------

    def new_layer(self, layer: Layer, pinned: bool | None, args: Any, kwargs: dict[str, Any]) -> Layer:
        if "training" not in inspect.signature(layer.call).parameters:
            pinned = None
        if id(layer) not in self.new_layers:
            new = copy_layer(layer, self.unique_name(layer), args, kwargs)
            if pinned is not None:
                new = FixedTraining(new, pinned)
                new.build()
            self.new_layers[id(layer)] = self.replace(new), pinned
        new, was_pinned = self.new_layers[id(layer)]
        if was_pinned != pinned:
            raise ValueError(
                f"Expected layer {layer.name!r} to be called with one and the same `training` everywhere. Received: "
                f"training={was_pinned} and training={pinned}, where None follows the model. Use two layers."
            )
        return new

    def new_operation(self, operation: Any) -> Any:
        if id(operation) not in self.new_operations:
            new = type(operation).from_config(operation.get_config())
            new.name = self.unique_name(operation)
            self.new_operations[id(operation)] = new
        return self.new_operations[id(operation)]

    def unique_name(self, operation: Any) -> str:
        """Return the name itself where it is free, else one that begins with the name of the parent."""
        name = operation.name
        if self.reserved.get(name) is not operation:
            taken = self.names | set(self.reserved)
            parts = [name]
            for parent in reversed(self.parents):
                # Names inside of a layer are often alike in all of its kind ("query"), those in a model seldom.
                if isinstance(parent, keras.Model) and "_".join(parts) not in taken:
                    break
                parts.insert(0, parent.name)
            name = _free("_".join(parts), taken)
        self.names.add(name)
        return name


def _may_open(layer: Layer, arguments: Any) -> bool:
    """Return whether a layer is made of layers only, so that its `call` may be a plain graph of them."""
    if isinstance(layer, PassThrough) or not layer._layers:
        return False
    if type(layer).__module__.startswith("keras."):
        if type(layer).__name__ not in _COMPOSITE:
            return False
    elif layer._trainable_variables or layer._non_trainable_variables or layer._seed_generators:
        return False  # its own weights or random numbers would not be in the graph
    return layer.activity_regularizer is None and not has_mask(arguments)


def _as_declared(x: Any, declared: Any) -> Any:
    dtype = keras.backend.standardize_dtype(declared.dtype)
    return x if keras.backend.standardize_dtype(x.dtype) == dtype else ops.cast(x, dtype)


def _free(name: str, taken: set[str]) -> str:
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate


def _rename_duplicates(outputs: Any) -> None:
    """Rename recorded operations (not layers) whose name is taken in the graph that leads to `outputs`."""
    waiting = [x._keras_history for x in tree.flatten(outputs)]
    operations: dict[int, Any] = {}
    seen: set[tuple[int, int]] = set()
    while waiting:
        operation, node_index, _ = waiting.pop()
        if (id(operation), node_index) in seen:
            continue
        seen.add((id(operation), node_index))
        operations[id(operation)] = operation
        waiting += [x._keras_history for x in operation._inbound_nodes[node_index].input_tensors]
    names: set[str] = set()
    for operation in sorted(operations.values(), key=lambda operation: not isinstance(operation, Layer)):
        if operation.name in names:
            operation.name = _free(operation.name, names)
        names.add(operation.name)


def _why(layer: Layer, error: Exception) -> str:
    """Return the message for a `call` that can't be traced, with the user's own line in it."""
    inside = (keras.__path__[0], "site-packages", __file__, "unittest")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not any(part in f.filename for part in inside)]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}: `{frames[-1].line}`" if frames else ""
    reason = (str(error).strip() or type(error).__name__).split("\n")[0].split(". ")[0].rstrip(".")
    return (
        f"Expected the `call` of {type(layer).__name__} {layer.name!r} to use Keras layers and keras.ops alone, so "
        f"that it can be opened into a graph. Received{where}: {reason}. Use keras.ops there, or put that part into "
        "a keras.layers.Layer of its own, which is then kept whole."
    )
