"""Opening a model of any kind into one flat functional graph of new layers."""

from __future__ import annotations

import contextlib
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import keras
from keras import tree
from keras.layers import Layer

from tfcompress.core.arguments import check_model
from tfcompress.core.keras_private import flatten_layers, layer_calls, producer, run_through_graph, values_read
from tfcompress.core.locking import exclusive
from tfcompress.core.out_of_memory import pass_on_full
from tfcompress.core.passthrough import Inserted, PassThrough
from tfcompress.graph.clone import autocast
from tfcompress.graph.equivalence import check_equal, is_of_keras_alone
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.free_sizes import FreeSize, Sized, free_sizes_recorded
from tfcompress.graph.inputs.declared import check_given
from tfcompress.graph.inputs.symbolic import (
    as_declared,
    graph_of,
    has_graph,
    input_name,
    is_graph,
    new_inputs,
    recorded_shapes,
)
from tfcompress.graph.naming import rename_duplicates
from tfcompress.graph.new_layers import NewLayers
from tfcompress.graph.openable import (
    FollowsModel,
    check_model_opens,
    fault_in_graph,
    may_open,
    of_unknown_output,
    of_weight,
    returns_the_same,
    why,
)
from tfcompress.graph.own_weights import in_graph, weights_as_layers
from tfcompress.graph.recursion_limit import class_of
from tfcompress.graph.registered_layers import check_registered
from tfcompress.graph.tensorflow_functions import recording, sums_recorded
from tfcompress.graph.time_distributed import Ends, why_not_together

# What a subclassed model may do in its own way in training, and a functional model made of it does in Keras'.
_STEPS = ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")


def rebuild(
    model: keras.Model, replace: Callable[[Layer], Layer | None] = lambda layer: layer, check: bool = True
) -> keras.Model:
    """Make a model again as one flat functional graph of new layers, some of them replaced.

    Nested models, subclassed models and composite layers are opened: what their `call` does becomes part
    of the graph. Shared layers stay shared, inputs and outputs keep their names and structure, weights are
    carried over, a `training=False` inside a `call` stays pinned, and the given model is left as it was.
    A composite layer that can't be opened is kept whole, as one layer.

    Args:
        model: A built Keras 3 model of any kind.
        replace: Called once for each new layer, built and with its weights; returns the layer to use, or `None`
            for none: then what the layer was called with takes the place of its output.
        check: Whether both models are to compute the same, which is tried on random data.

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
    return _Opener(model, replace).run(check).model()


def opened(
    model: keras.Model, replace: Callable[[Layer], Layer | None] = lambda layer: layer, check: bool = True
) -> FlatGraph:
    """Return what `rebuild` makes a model of: for who goes on to rewrite it."""
    check_built(model)
    return _Opener(model, replace).run(check)


def check_built(model: Any) -> None:
    """Raise TypeError unless `model` is a Keras model, ValueError unless it is built."""
    check_model(model)
    if not model.built or (not is_graph(model) and recorded_shapes(model) is None):
        raise ValueError(
            f"Expected a built model. Received: {type(model).__name__} {model.name!r}, which has no weights yet. "
            "Begin it with a keras.Input, or call it once on a batch of data."
        )
    if has_graph(model):
        inputs = graph_of(model).inputs
        declared = [x.dtype for x in inputs] if is_graph(model) else None
        check_given([input_name(x) for x in inputs], [tuple(x.shape) for x in inputs], declared)


def is_flat(model: keras.Model) -> bool:
    """Return whether a model is a functional graph with no model, and nothing of compression, inside of its layers."""
    if not is_graph(model):
        return False
    operations = [operation for operation in graph_of(model).operations if isinstance(operation, Layer)]
    inside = [
        part
        for operation in operations
        if not isinstance(operation, PassThrough)
        for part in flatten_layers(operation, include_self=False)
    ]
    return not any(isinstance(x, keras.Model) for x in operations) and not any(
        isinstance(part, keras.Model | PassThrough | Inserted) for part in inside
    )


# The class that `value` is a property of: on some backends a base of keras.Variable.


class _CannotOpen(ValueError):
    """A `call` is no plain graph of layers and operations."""


class _Opener:
    """One walk through a model. Visiting a layer does in the new graph what calling it does in the old."""

    def __init__(self, model: keras.Model, replace: Callable[[Layer], Layer | None]):
        self.model = model
        self.replace = replace
        self.ends: dict[int, Ends] = {}
        # Where the walk is: the layers that are open around it, and what `training` they pin.
        self.parents: list[Layer] = []
        self.new = NewLayers(model, replace, self.parents)
        self.pinned: bool | None = None
        self.in_call = False
        self.calls_opened = False
        self.thread = threading.get_ident()
        self.follows = FollowsModel()

    def run(self, check: bool) -> FlatGraph:
        inputs = new_inputs(self.model)
        self.anchor = tree.flatten(inputs)[0]
        self.new.names.update(x.name for x in tree.flatten(inputs))

        def traced() -> bool:
            return self.in_call and threading.get_ident() == self.thread

        def called(layer: Layer, call: Any, args: Any, kwargs: Any) -> Any:
            return self.visit(layer, args, kwargs) if traced() else call(*args, **kwargs)

        def read(variable: keras.Variable) -> None:
            if traced():
                raise _CannotOpen(of_weight("a `call`", variable.path))

        with (
            exclusive(),
            layer_calls(called),
            mock.patch.object(keras.KerasTensor, "__array_ufunc__", None, create=True),  # "array * x" asks x
            sums_recorded(traced, self.calls_intercepted),
            values_read(read),
            recording(lambda: self.in_call, self.calls_intercepted),
            free_sizes_recorded(traced, self.sized),
        ):
            if is_graph(self.model):
                outputs = self.keep_output_names(self.open_graph(self.model, inputs))
            else:
                check_model_opens(self.model)
                self.follows.taken = returns_the_same(self.model, inputs)
                try:
                    held = weights_as_layers(self.model, tree.flatten(inputs)[0], self.replace)
                    outputs = self.open_call(held, (inputs,), {})
                except _CannotOpen as reason:
                    raise ValueError(str(reason)) from reason.__cause__
        rename_duplicates(outputs)
        graph = FlatGraph(inputs, outputs, self.model.name, self.model_class())
        if check:
            if self.calls_opened or self.new.replaced or not is_of_keras_alone(self.model):
                check_equal(self.model, graph.model(), self.follows.branched)
            check_registered(graph)
        return graph

    def model_class(self) -> Any:
        """Return the class of the new model: a functional model's own steps of training are kept."""
        cls, kept = type(self.model), class_of(self.model)
        if kept is cls or cls.__module__.startswith("keras."):
            return kept
        lost = [name for name in _STEPS if getattr(cls, name) is not getattr(keras.Model, name)]
        if lost:
            warnings.warn(
                f"{cls.__name__} defines {', '.join(lost)}; the functional model that is made of it trains with "
                "Keras' own steps. Train it with a loop of your own if yours are needed.",
                stacklevel=5,
            )
        return kept

    def keep_output_names(self, outputs: Any) -> Any:
        """Add an identity where an output has lost its name, as that of a nested model does."""
        names = iter(graph_of(self.model).output_names)
        identities: dict[str, Layer] = {}

        def keep(tensor: Any) -> Any:
            name = next(names)
            if producer(tensor).name == name and name not in identities:
                return tensor
            if name not in identities:
                identities[name] = keras.layers.Identity(name=name, dtype=tensor.dtype)
            return identities[name](tensor)

        return tree.map_structure(keep, outputs)

    # Visiting --------------------------------------------------------------------------------------

    def visit(self, layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        kwargs = dict(kwargs)
        pinned = self.pinned
        if isinstance(layer, Layer) and "training" in kwargs and (self.in_call or pinned is not None):
            given = kwargs.pop("training")
            if self.in_call and given is not self.follows and given is not None:
                pinned = bool(given)
        if not isinstance(layer, Layer):
            return self.new.operation(layer)(*args, **kwargs)
        if is_graph(layer):
            with self.inside(layer, pinned):
                return self.open_graph(layer, args[0] if args else next(iter(kwargs.values())))
        with self.calls_intercepted(False):
            opens = may_open(layer, (args, kwargs))
        if opens:
            before = self.new.made()
            try:
                with self.inside(layer, pinned):
                    return self.open_call(layer, args, kwargs)
            except _CannotOpen:  # what was made of the layers inside is of no use
                self.new.restore(before)
        if type(layer) is keras.layers.TimeDistributed and why_not_together(layer, (args, kwargs)) is None:
            self.calls_opened = True
            ends = self.ends.get(id(layer)) or self.ends.setdefault(id(layer), Ends(self.new.unique_name(layer)))
            with self.inside(layer, pinned), self.calls_intercepted(False):
                return ends.around(layer, lambda x: self.visit(layer.layer, (x,), {}), *args, **kwargs)
        with self.calls_intercepted(False):
            args, kwargs = in_graph(layer, self.anchor, (args, kwargs), self.new.names)
            new = self.new.layer(layer, pinned, args, kwargs)
            if new is None:
                return args[0]
            try:
                return new(*args, **kwargs)
            except Exception as error:
                raise _CannotOpen(of_unknown_output(layer, error)) from error

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
        if isinstance(inputs, dict) and not isinstance(graph.input, dict):
            flat = [inputs[x.name] for x in graph.inputs]
        flat = [as_declared(x, declared) for x, declared in zip(flat, graph.inputs, strict=True)]
        with self.calls_intercepted(False):
            return run_through_graph(
                graph, flat, operation_fn=lambda operation: lambda *a, **k: self.visit(operation, a, k)
            )

    def open_call(self, layer: Layer, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run a layer's `call` on symbolic tensors; each layer that it calls is visited."""
        self.calls_opened = True
        if "training" in inspect.signature(layer.call).parameters:
            kwargs = {**kwargs, "training": self.follows if self.pinned is None else self.pinned}
        args, kwargs = tree.map_structure(lambda x: autocast(layer, x), (args, kwargs))
        try:
            with self.calls_intercepted(True):
                outputs = layer.call(*args, **kwargs)
        except _CannotOpen:
            raise
        except Exception as error:
            pass_on_full(error)
            raise _CannotOpen(why(layer, error)) from error
        returned = tree.flatten(outputs)
        tensors = [x for x in returned if keras.utils.is_keras_tensor(x)]
        beside = () if not self.parents else (bool, int, float, str, type(None), FreeSize)  # as the sizes of an image
        if not tensors or not all(isinstance(x, (keras.KerasTensor, *beside)) for x in returned):
            raise _CannotOpen(
                f"Expected the `call` of {type(layer).__name__} {layer.name!r} to return tensors that depend on its "
                f"inputs. Received: {outputs!r}."
            )
        fault = fault_in_graph(layer, tensors, {id(x) for x in tree.flatten((args, kwargs))})
        if fault is not None:
            raise _CannotOpen(fault)
        return outputs

    # Making ----------------------------------------------------------------------------------------

    def sized(self, layer: Sized, tensors: list[Any]) -> Any:
        """Put a layer into the graph that computes with sizes which are free."""
        layer.name = self.new.unique_name(layer)
        layer.source_names = tuple(parent.name for parent in self.parents)
        with self.calls_intercepted(False):
            return layer(tensors)
