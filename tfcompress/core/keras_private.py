"""The private names of Keras: the only module that has them, each with the reason and with what to do without it.

A release of Keras may change any of them: `tests/core/test_keras_private.py` then fails, and says what stands here.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import keras
from keras import tree
from keras.layers import Layer
from keras.src.backend.common import global_state
from keras.src.backend.common.masking import get_keras_mask
from keras.src.backend.common.variables import AutocastScope
from keras.src.models.model import Trainer
from keras.src.ops.function import map_graph
from keras.src.ops.node import Node
from keras.src.ops.symbolic_arguments import SymbolicArguments
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.saving.serialization_lib import SafeModeScope
from keras.src.utils.tracking import DotNotTrackScope, Tracker

__all__ = ["KerasSaveable", "Node", "Tracker"]
# Classes that Keras doesn't export: what is saved as an object (layers, operations, metrics, losses, optimizers), a
# recorded call, and what sorts the attributes of a layer.

STORES = ("_layers", "_trainable_variables", "_non_trainable_variables")
"""The attributes in which a layer has the layers and variables that others of its attributes hold."""

# What a layer has of the graphs and steps that it was part of: a copy begins without.
_OF_CALLS: dict[str, Callable[[], Any]] = {
    "_inbound_nodes": list,
    "_outbound_nodes": list,
    "_losses": list,
    "_loss_ids": set,
    "_losses_override": list,
    "_parent_path": lambda: None,
}
# What `compile` and `fit` leave in a model.
_OF_TRAINING = (
    "_compile_config",
    "_compile_loss",
    "_compile_metrics",
    "_compiled_trainable_state",
    "_loss_tracker",
    "history",
    "loss",
    "optimizer",
    "predict_function",
    "stop_training",
    "test_function",
    "train_function",
)
_OF_GRAPH = ("_inputs_struct", "_outputs_struct", "_inputs", "_outputs")
_GRAPH_MAPS = ("_nodes", "_nodes_by_depth", "_operations", "_operations_by_depth")


# What is in a layer --------------------------------------------------------------------------------------


def flatten_layers(layer: Layer, include_self: bool = True, recursive: bool = True) -> list[Layer]:
    """Return a layer, or a model, and the layers in it, each once.

    `Model.layers` are those of a model alone, without what is in them.
    Instead: walk through `sublayers`.
    """
    return list(layer._flatten_layers(include_self, recursive))


def sublayers(layer: Layer) -> list[Layer]:
    """Return the layers that attributes of a layer hold.

    `Model.layers` leaves out those that a layer that is no model holds.
    Instead: look for layers in `vars(layer)`, in lists, tuples and dicts too.
    """
    return list(layer._layers)


def own_trainable(layer: Layer) -> list[keras.Variable]:
    """Return the variables of a layer itself that were made to be trained, frozen ones too.

    `Layer.trainable_variables` has those of sublayers too, and none that is frozen.
    Instead: take those of `Layer.variables` that no sublayer has.
    """
    return list(layer._trainable_variables)


def own_state(layer: Layer) -> list[keras.Variable]:
    """Return the variables of a layer itself that are never trained, as the statistics of a batch normalization.

    `Layer.non_trainable_variables` has those of sublayers too, and all that are frozen.
    Instead: as for `own_trainable`.
    """
    return list(layer._non_trainable_variables)


def own_variables(layer: Layer) -> list[keras.Variable]:
    """Return the variables of a layer itself, without those of the layers in it: first what was made to be trained.

    Instead: as for `own_trainable`.
    """
    return [*own_trainable(layer), *own_state(layer)]


def seed_generators(layer: Layer) -> list[Any]:
    """Return the generators of random numbers that a layer itself has.

    Nothing public says which of a layer's variables is the state of one.
    Instead: look for `keras.random.SeedGenerator` in `vars(layer)`.
    """
    return list(layer._seed_generators)


def attention_dropout(layer: Layer) -> float:
    """Return the share of its weights that an attention drops in training.

    `MultiHeadAttention` keeps it in a private attribute, others in a public one.
    Instead: ask `get_config()["dropout"]`.
    """
    return float(getattr(layer, "_dropout", getattr(layer, "dropout", 0.0)))


def weight_under_lora(layer: Layer, name: str) -> keras.Variable:
    """Return the variable "kernel" or "embeddings" of a layer, without the low-rank product that `enable_lora` adds.

    The public attribute is a property, which adds the product.
    Instead: find it in `own_variables` by its name.
    """
    return getattr(layer, f"_{name}")


# How a layer was built and is called ----------------------------------------------------------------------


def build_shapes(layer: Layer) -> dict[str, Any]:
    """Return the shapes that a layer was built with, by argument of its `build`; {} if that isn't known.

    `get_build_config` may be overridden and then has something else.
    Instead: ask `get_build_config`, for layers of Keras' own.
    """
    return dict(layer._build_shapes_dict or {})


def kept_axes(layer: Any) -> tuple[int, ...]:
    """Return the axes, from 0, along which a `Normalization` has a mean each; of one that isn't built those it got.

    `Normalization.axis` is what the user gave, maybe negative.
    Instead: add the rank to negative entries of `axis`.
    """
    axis = layer.axis
    given = (axis,) if isinstance(axis, int) else tuple(axis or ())
    return tuple(getattr(layer, "_keep_axis", given))


def has_default_build(layer: Layer) -> bool:
    """Return whether a layer has no `build` of its own, so that its sublayers are built when it is called.

    Keras wraps `build` in each layer, so that comparing methods doesn't help.
    Instead: look for `build` in `vars` of the classes between that of the layer and `Layer`.
    """
    return bool(getattr(layer.build, "_is_default", False))


def takes_training(layer: Layer) -> bool:
    """Return whether a layer's call takes `training`; that of a wrapper of this package isn't what `inspect` says.

    Instead: ask `inspect.signature(layer.call)`.
    """
    return bool(layer._call_has_training_arg)


def takes_mask(layer: Layer) -> bool:
    """Return whether a layer's call takes `mask`, as `takes_training`.

    Instead: ask `inspect.signature(layer.call)`.
    """
    return bool(layer._call_has_mask_arg)


def call_signature(layer: Layer) -> inspect.Signature:
    """Return the signature by which Keras sorts what a layer is called with.

    Instead: `inspect.signature(layer.call)`.
    """
    signature: inspect.Signature = layer._call_signature
    return signature


def set_call_signature(layer: Layer, signature: inspect.Signature) -> None:
    """Let Keras sort what a layer is called with by another signature than that of its `call`.

    Keras refuses an argument that only `**kwargs` catches if it holds tensors beside other values.
    Instead: give the `call` itself a `__signature__`, if Keras reads that.
    """
    layer._call_signature = signature


def call_context(layer: Layer) -> Any:
    """Return what all layers have in common while the outermost one is called; its `entry_layer` is that one.

    Nothing public says that two calls belong to one step.
    Instead: the outermost layer could be noted by a `__call__` of its own.
    """
    return layer._get_call_context()


@contextlib.contextmanager
def context_of_its_own() -> Iterator[None]:
    """Let the `training` that a layer is called with in the block be that of the layer alone.

    All layers of a model share one context of the call, in which a `training` that a layer is given stays: layers
    behind, called without one as Keras 3.16 calls all, would take it for the model's.
    Instead: find where Keras keeps the context that `call_context` returns.
    """
    name = "current_call_ctx"
    context = global_state.get_global_attribute(name)
    global_state.set_global_attribute(name, copy.copy(context))
    try:
        yield
    finally:
        global_state.set_global_attribute(name, context)


@contextlib.contextmanager
def layer_calls(around: Callable[[Layer, Callable[..., Any], Any, Any], Any]) -> Iterator[None]:
    """Let `around(layer, call, args, kwargs)` return what each layer returns that is called in the block.

    A `call` of the user's own calls layers as it likes, and what it does to them is to be seen; whatever thread.
    Instead: replace the layers by others before the `call` runs, where it finds them by attributes.
    """
    original = Layer.__call__

    def call(layer: Layer, *args: Any, **kwargs: Any) -> Any:
        return around(layer, functools.partial(original, layer), args, kwargs)

    with mock.patch.object(Layer, "__call__", call):
        yield


@contextlib.contextmanager
def values_read(seen: Callable[[keras.Variable], None]) -> Iterator[None]:
    """Call `seen(variable)` before the value of any variable is read in the block; what it raises, the reader gets.

    Instead: compare what two runs give, with other values of the weights.
    """
    owner = next(cls for cls in keras.Variable.__mro__ if "value" in vars(cls))
    read = owner.value

    def value(variable: keras.Variable) -> Any:
        seen(variable)
        return read.fget(variable)

    with mock.patch.object(owner, "value", property(value)):
        yield


# Precision -------------------------------------------------------------------------------------------------


def own_policy(layer: Layer) -> keras.DTypePolicy:
    """Return the policy that was given to a layer, whatever its class says that `dtype_policy` is.

    Instead: `keras.layers.Layer.dtype_policy.fget(layer)`.
    """
    return layer._dtype_policy


def set_policy(layer: Layer, policy: keras.DTypePolicy) -> None:
    """Give a layer a policy, past the setter, which quantizes, or writes into a `DTypePolicyMap` that others share.

    Instead: make the layer again from its configuration, with another "dtype".
    """
    object.__setattr__(layer, "_dtype_policy", policy)


def policy_with_variables(compute_dtype: str, variable_dtype: str) -> keras.DTypePolicy:
    """Return a policy that has other variables than it computes in, so that these are cast.

    `DTypePolicy` takes names, and has none for float32 on bfloat16 variables.
    Instead: a subclass with a `variable_dtype` of its own.
    """
    policy = keras.DTypePolicy(compute_dtype)
    policy._variable_dtype = variable_dtype
    return policy


def set_tensor_dtype(x: Any, dtype: str) -> None:
    """Let a symbolic tensor, or the layer of an input, have another dtype, past what refuses that.

    Instead: make the graph again behind a new `keras.Input`.
    """
    object.__setattr__(x, "_dtype", dtype)


def stored_dtype(variable: keras.Variable) -> str:
    """Return the dtype in which a variable is kept; `Variable.dtype` is that to which it is cast in a layer's call.

    Instead: that of `variable.value` outside of any call.
    """
    return str(variable._dtype)


def is_cast(variable: keras.Variable) -> bool:
    """Return whether a layer's call reads a variable in the layer's dtype.

    Instead: read it within `computing_in`, and compare dtypes.
    """
    return bool(getattr(variable, "_autocast", True))


def computing_in(dtype: str | None) -> contextlib.AbstractContextManager[Any]:
    """Let variables be read in a dtype in the block, as in the call of a layer that computes in it.

    Instead: call the layer, not its `call`.
    """
    scope: contextlib.AbstractContextManager[Any] = AutocastScope(dtype)
    return scope


# Variables -------------------------------------------------------------------------------------------------


def set_path(variable: keras.Variable, path: str) -> None:
    """Give a variable another path, as the one that it would have in another place.

    A path is made of the names of the layers that are being built, and can't be changed.
    Instead: build the copy within `keras.name_scope`.
    """
    variable._path = path


def layout_of(variable: Any) -> Any:
    """Return where on a mesh a variable lies, as `set_layout` or Keras said; `None` if neither did.

    Instead: ask `variable.value.sharding`, on JAX.
    """
    return getattr(variable, "_layout", None)


def set_layout(variable: keras.Variable, layout: Any) -> None:
    """Say where on a mesh a variable lies, from the next time on that it is assigned.

    The public `LayoutMap` goes by paths, which a copy's or a state's may not have.
    Instead: make the variable within a distribution that has a `LayoutMap` of its path.
    """
    variable._layout = layout


def copy_trainable(old: Layer, new: Layer) -> None:
    """Let a layer be trainable or not as another is, and leave its variables as they are.

    Setting `Layer.trainable` sets that of each variable too, some of which may be frozen on their own.
    Instead: set it, and set the variables' own again.
    """
    new._trainable = old._trainable


def input_shape_given(layer: Layer) -> tuple[int | None, ...] | None:
    """Return the `input_shape` that a layer was made with, which a Sequential that begins with it takes; or `None`.

    Instead: let the Sequential begin with a keras.Input.
    """
    return getattr(layer, "_input_shape_arg", None)


@contextlib.contextmanager
def unlocked(layer: Layer) -> Iterator[None]:
    """Let a built layer get and lose attributes that hold variables or layers in the block.

    Instead: make the layer again, unbuilt.
    """
    layer._tracker.unlock()
    try:
        yield
    finally:
        layer._tracker.lock()


def forget_variables(layer: Layer) -> None:
    """Let a copy of a layer, in which `None` stands for each variable, be one that was never built.

    Instead: make the layer from its configuration.
    """
    for store in (layer._trainable_variables, layer._non_trainable_variables):
        store.clear()
    for ids in layer._tracker.stored_ids.values():
        ids.discard(id(None))
    layer._tracker.unlock()
    layer.built = False


# Graphs ----------------------------------------------------------------------------------------------------


def graph_of_sequential(model: keras.Sequential) -> Any:
    """Return the functional model that a Sequential one is; `None` if it isn't built yet.

    `Sequential` shows inputs and outputs of it, and not itself.
    Instead: `keras.Model(model.inputs, model.outputs)`, kept beside the model.
    """
    return model._functional


def producer(x: Any) -> Any:
    """Return the layer or operation that returned a symbolic tensor.

    Nothing public says what made a tensor.
    Instead: that of the call in `nodes_in_order` of the graph that has it among its `outputs`.
    """
    return x._keras_history.operation


def producing_node(x: Any) -> Any:
    """Return the recorded call that returned a symbolic tensor.

    Instead: as for `producer`.
    """
    history = x._keras_history
    return history.operation._inbound_nodes[history.node_index]


def place_in_output(x: Any) -> int:
    """Return which of a call's outputs a symbolic tensor is.

    Instead: look for it in `producing_node(x).outputs`.
    """
    return int(x._keras_history.tensor_index)


def inbound_nodes(operation: Any) -> list[Any]:
    """Return the calls of a layer or operation that were recorded: the list itself, from which calls can be taken.

    Instead: those of `nodes_in_order` of the graph whose `operation` it is.
    """
    nodes: list[Any] = operation._inbound_nodes
    return nodes


def outbound_nodes(operation: Any) -> list[Any]:
    """Return the recorded calls that read what an operation returned: the list itself, as `inbound_nodes`.

    Instead: those of `nodes_in_order` of the graph that have one of its outputs among their `input_tensors`.
    """
    nodes: list[Any] = operation._outbound_nodes
    return nodes


def nodes_by_depth(graph: Any) -> list[list[Any]]:
    """Return the recorded calls of a functional model: first those that others need.

    `Function.operations` has each operation once, however often it is called.
    Instead: walk from `graph.outputs` through `producing_node`.
    """
    return [list(graph._nodes_by_depth[depth]) for depth in sorted(graph._nodes_by_depth, reverse=True)]


def nodes_in_order(graph: Any) -> list[Any]:
    """Return the recorded calls of a functional model in an order in which they can be made.

    Instead: as for `nodes_by_depth`.
    """
    return [node for nodes in nodes_by_depth(graph) for node in nodes]


def graph_map(inputs: list[Any], outputs: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return the recorded calls between tensors, in the order of `nodes_in_order`, and the operations, each once.

    A functional model has them too, and a layer of its own around them.
    Instead: make a `keras.Function`.
    """
    _, by_depth, operations, _ = map_graph(inputs, outputs)
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]], operations


def run_through_graph(graph: Any, inputs: Sequence[Any], operation_fn: Callable[[Any], Any]) -> Any:
    """Return what a functional model returns, with `operation_fn(operation)` called in place of each operation.

    Instead: call the operations in the order of `nodes_in_order`.
    """
    return graph._run_through_graph(list(inputs), operation_fn=operation_fn)


@contextlib.contextmanager
def activations_freed() -> Iterator[None]:
    """Let functional models that run in the block keep no tensor that no operation reads any more.

    Keras keeps all of them until the last is computed: of an image network hundreds of megabytes.
    Instead: do without; what is computed is the same.
    """
    run, fill_in = keras.Function._run_through_graph, SymbolicArguments.fill_in
    here = threading.local()  # the models that run in a thread, each within the one before

    def freeing(graph: Any, *args: Any, **kwargs: Any) -> Any:
        last = {id(x): id(node.arguments) for node in nodes_in_order(graph) for x in node.input_tensors}
        kept = {id(x) for x in graph.outputs}
        read: dict[int, list[int]] = {}
        for tensor, arguments in last.items():
            if tensor not in kept:
                read.setdefault(arguments, []).append(tensor)
        here.running = [*getattr(here, "running", ()), read]
        try:
            return run(graph, *args, **kwargs)
        finally:
            here.running.pop()

    def filled(arguments: Any, values: dict[int, Any]) -> Any:
        made = fill_in(arguments, values)
        for tensor in here.running[-1].get(id(arguments), ()) if getattr(here, "running", ()) else ():
            values.pop(tensor, None)
        return made

    with (
        mock.patch.object(keras.Function, "_run_through_graph", freeing),
        mock.patch.object(SymbolicArguments, "fill_in", filled),
    ):
        yield


def keras_mask(x: Any) -> Any:
    """Return the mask that a layer has attached to a tensor; `None` if none did.

    On JAX it isn't an attribute of the tensor.
    Instead: ask each layer's `compute_mask`.
    """
    return get_keras_mask(x)


def record_call(operation: Any, arguments: Any, keywords: Any, outputs: list[Any]) -> None:
    """Record that an operation was called on symbolic tensors and returned others, without calling it.

    Instead: call it, which runs the user's own code again.
    """
    Node(operation, arguments, keywords, outputs)


# Copies of layers as objects -------------------------------------------------------------------------------


def begin_copy(x: Any, new: Any) -> dict[str, Any]:
    """Give an object of the same class what the copy of a layer begins with; return the attributes left to copy.

    Calls of it that were recorded, losses of its last call and what `compile` made stay behind; what a functional
    model knows of its graph is for `copy_graph`.
    Instead: make the copy from its configuration, which a layer of the user's own may not have.
    """
    left = {*(_OF_TRAINING if isinstance(x, keras.Model) else ())}
    left |= {*((*_OF_GRAPH, *_GRAPH_MAPS) if isinstance(x, keras.Function) else ())}
    vars(new).update((name, make()) for name, make in _OF_CALLS.items() if name in vars(x))
    return {name: value for name, value in vars(x).items() if name not in left and name not in _OF_CALLS}


def reset_training(model: keras.Model) -> None:
    """Let a copy of a model be one that was never compiled.

    Instead: `keras.Model.__init__` on an object of the user's class.
    """
    Trainer.__init__(model)


def copy_graph(old: Any, new: Any, fill: Callable[[Any], Any]) -> None:
    """Let a copy of a functional model know its graph, whose calls have been recorded.

    Args:
        old: The model.
        new: The copy.
        fill: Returns the tensor of the new graph for one of the old.

    Instead: `keras.Model(inputs, outputs)`, which isn't of the user's class.
    """
    with DotNotTrackScope():
        for name in _OF_GRAPH:
            setattr(new, name, tree.map_structure(fill, getattr(old, name)))
        for name, value in zip(_GRAPH_MAPS, map_graph(new._inputs, new._outputs), strict=True):
            setattr(new, name, value)


def copy_tracker(old: Any, new: Any, copied: Callable[[Any], Any]) -> None:
    """Fill a new `Tracker`, which knows variables and layers by their `id`, with the copies of what another has.

    Instead: `Layer.__init__` on the copy makes one, before attributes are set with `setattr`.
    """
    vars(new).update((name, copied(value)) for name, value in vars(old).items() if name != "stored_ids")
    new.stored_ids = {name: {id(item) for item in store} for name, (_, store) in new.config.items()}


# Training and saving ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def losses_set_aside(layer: Layer) -> Iterator[None]:
    """Let a layer have no losses in the block, and those that it had again behind it.

    A call of the layer begins with emptying them, and a regularizer would fill them with tensors of a graph.
    Instead: keep `layer.losses`, and `add_loss` each again.
    """
    before = layer._losses, layer._loss_ids
    object.__setattr__(layer, "_losses", [])
    object.__setattr__(layer, "_loss_ids", set())
    try:
        yield
    finally:
        object.__setattr__(layer, "_losses", before[0])
        object.__setattr__(layer, "_loss_ids", before[1])


def compute_loss(model: keras.Model, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Any:
    """Return the loss in training, also of a model whose own `compute_loss` takes no `training`.

    Instead: ask the signature of `model.compute_loss`.
    """
    return model._compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)


def loss_weights(model: keras.Model) -> Any:
    """Return the `loss_weights` that a model was compiled with; `None` if it wasn't, or without.

    `Model.get_compile_config` has them too, and refuses losses that can't be serialized.
    Instead: `model.get_compile_config()["loss_weights"]`.
    """
    return getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None)


def steps_applied(optimizer: Any) -> keras.Variable:
    """Return the variable in which an optimizer counts the gradients that it got.

    `Optimizer.iterations` counts rounds of accumulated gradients.
    Instead: `iterations`, times `gradient_accumulation_steps`.
    """
    return optimizer._iterations


def variable_index(optimizer: Any, variable: keras.Variable) -> int:
    """Return the place of a variable among those that an optimizer was built with, as its `update_step` is given it.

    Instead: compare with each of them.
    """
    return int(optimizer._get_variable_index(variable))


def jax_state(model: keras.Model) -> dict[str, Any] | None:
    """Return the values of a model's variables while JAX trains and the variables themselves are empty, else `None`.

    Instead: wait for the end of the epoch, when Keras writes them back.
    """
    state: dict[str, Any] | None = getattr(model, "_jax_state", None)
    return state if state and not model._jax_state_synced else None


def any_code() -> contextlib.AbstractContextManager[Any]:
    """Let a configuration that is at hand as an object hold lambdas: it is no file of somebody else's.

    `keras.config.enable_unsafe_deserialization` holds from then on.
    Instead: that, where the process loads nothing else.
    """
    scope: contextlib.AbstractContextManager[Any] = SafeModeScope(False)
    return scope
