"""What may be opened, what can't be, and how to say so."""

from __future__ import annotations

import ast
import contextlib
import inspect
import textwrap
import threading
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import keras
from keras import tree
from keras.layers import Layer

from tfcompress.core.error_messages import told
from tfcompress.core.keras_private import (
    STORES,
    flatten_layers,
    layer_calls,
    own_state,
    own_trainable,
    producing_node,
    seed_generators,
    sublayers,
)
from tfcompress.core.passthrough import PassThrough, innermost
from tfcompress.graph.clone import has_mask
from tfcompress.graph.free_sizes import FreeSize
from tfcompress.graph.own_weights import plain
from tfcompress.layers.names import is_of_keras, is_registered

# Layers of Keras that are plain graphs of layers; all others of Keras' own are left whole.
_COMPOSITE = ("MultiHeadAttention", "GroupedQueryAttention", "Pipeline", "Sequential")


class FollowsModel:
    """Stands for `training` while a `call` is traced: whatever the model will be called with."""

    branched = False
    taken = True

    def __bool__(self) -> bool:
        """Return which branch is taken."""
        # A `call` that branches is taken as in training; that inference agrees is checked with numbers. One that then
        # returns something else altogether is taken as in inference.
        self.branched = True
        return self.taken


def may_open(layer: Layer, arguments: Any) -> bool:
    """Return whether a layer is made of layers only, so that its `call` may be a plain graph of them."""
    if isinstance(layer, PassThrough) or is_registered(layer) or not sublayers(layer) or not passes_training_on(layer):
        return False
    if is_of_keras(layer):
        if type(layer).__name__ not in _COMPOSITE:
            return False
    elif own_trainable(layer) or own_state(layer) or seed_generators(layer):
        return False  # its own weights or random numbers would not be in the graph
    return layer.activity_regularizer is None and not has_mask(arguments) and not _makes_mask(layer, arguments)


def _makes_mask(layer: Layer, arguments: Any) -> bool:
    """Return whether a layer attaches a Keras mask to what it returns: the layers inside don't know of it."""
    if type(layer).compute_mask.__module__.startswith("keras."):
        return False
    args, kwargs = arguments
    try:
        mask = layer.compute_mask(args[0] if args else next(iter(kwargs.values())), None)
    except Exception:
        return True
    return any(x is not None for x in tree.flatten(mask))


def why_whole(layer: Layer) -> str | None:
    """Return why an attention is one layer of a flat model, and not opened; `None` of all other layers."""
    inner = innermost(layer)
    if not isinstance(inner, keras.layers.MultiHeadAttention | keras.layers.GroupQueryAttention):
        return None
    if not is_of_keras(inner):
        return "it is a layer whose `call` can't be opened"
    return "it gets a Keras mask and can't be opened; leave mask_zero out and pass attention_mask= explicitly"


def passes_training_on(layer: Layer) -> bool:
    """Return whether a `call` does nothing with `training` but pass it on; a model may also say `if training:`."""
    if is_of_keras(layer):
        return True
    try:
        parsed = ast.parse(textwrap.dedent(inspect.getsource(type(layer).call)))
    except (OSError, TypeError, SyntaxError):
        return True
    allowed = [keyword.value for node in ast.walk(parsed) if isinstance(node, ast.Call) for keyword in node.keywords]
    if isinstance(layer, keras.Model):
        tests = [node.test for node in ast.walk(parsed) if isinstance(node, ast.If | ast.IfExp)]
        while tests:  # also "not training", "training and x"
            test = tests.pop()
            allowed.append(test)
            tests += [test.operand] if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else []
            tests += test.values if isinstance(test, ast.BoolOp) else []
    known = {id(node) for node in allowed}
    used = [node for node in ast.walk(parsed) if isinstance(node, ast.Name) and node.id == "training"]
    return all(id(node) in known for node in used)


def check_model_opens(model: keras.Model) -> None:
    """Raise ValueError if a subclassed model does what a functional one can't."""
    if model.activity_regularizer is not None or not passes_training_on(model):
        raise ValueError(
            f"Expected a `call` that passes `training` on or says `if training:`, and no activity regularizer of the "
            f"model itself. Received: {type(model).__name__} {model.name!r}. Put that part into a keras.layers.Layer "
            "of its own."
        )


def of_weight(what: str, path: str) -> str:
    """Return the message for a `call` that computes with a weight itself."""
    return (
        f"Expected {what} to leave the weights to their layers. Received: it computes with {path!r} itself. Use a "
        "layer that does it (such as keras.layers.ReversibleEmbedding), or put that part into a keras.layers.Layer of "
        "its own, which is kept whole."
    )


def fault_in_graph(layer: Layer, outputs: Any, inputs: set[int]) -> str | None:
    """Return what is wrong with the operations that a `call` has recorded, as a message; `None`: nothing is.

    Args:
        layer: Whose `call` it is.
        outputs: Symbolic tensors that it returned.
        inputs: The `id` of each tensor that it was given.
    """
    name = f"{type(layer).__name__} {layer.name!r}"
    waiting = [x for x in tree.flatten(outputs) if id(x) not in inputs]
    seen: set[int] = set()
    while waiting:
        node = producing_node(waiting.pop())
        if id(node) in seen:
            continue
        seen.add(id(node))
        for x in tree.flatten((node.arguments.args, node.arguments.kwargs)):
            if isinstance(x, keras.Variable):
                return of_weight(f"the `call` of {name}", x.path)
            if isinstance(x, FreeSize):
                return (
                    f"Expected the `call` of {name} to compute with sizes in keras.ops alone. Received: "
                    f"{node.operation.name!r} gets {x}, which is free. Give the input a fixed size, or put that part "
                    "into a keras.layers.Layer of its own, which is kept whole."
                )
            if not keras.utils.is_keras_tensor(x) and 0 in tuple(getattr(x, "shape", ())):
                return (
                    f"Expected the `call` of {name} to make tensors of known sizes. Received: {node.operation.name!r} "
                    f"gets one of shape {tuple(x.shape)}, made of a size that is free, as keras.ops.arange of it is. "
                    "Give the input a fixed size, or put that part into a keras.layers.Layer, which is kept whole."
                )
        fault = _free_size(name, node.operation)
        if fault is not None:
            return fault
        waiting += [x for x in node.input_tensors if id(x) not in inputs]
    return None


def _free_size(name: str, operation: Any) -> str | None:
    """Return the message for an operation that was given a size that is free; one in a reshaping becomes -1."""
    if isinstance(operation, Layer):
        return None
    for attribute in ("newshape", "shape"):
        sizes = getattr(operation, attribute, None)
        if not isinstance(sizes, list | tuple) or None not in sizes:
            continue
        if attribute == "newshape" and sum(size in (None, -1) for size in sizes) == 1:
            operation.newshape = tuple(-1 if size is None else size for size in sizes)
            continue
        return (
            f"Expected the `call` of {name} to make tensors of known sizes. Received: {operation.name!r} makes one of "
            f"shape {tuple(sizes)}. Give the input a fixed size, or put that part into a keras.layers.Layer, which is "
            "kept whole."
        )
    return None


class _Unbuilt(Exception):
    """A layer is called that was never built."""


def returns_the_same(model: keras.Model, inputs: Any) -> bool:
    """Return whether a model's `call` returns tensors of the same structure and shapes in training as in inference.

    It doesn't either where training alone calls layers that were never built.

    Warns:
        UserWarning: If it doesn't.
    """
    if "training" not in inspect.signature(model.call).parameters:
        return True
    unbuilt = {id(layer): layer for layer in _held_layers(model) if not layer.built}  # nothing is built here
    reached: list[Layer] = []
    here = threading.get_ident()

    def called(layer: Layer, call: Any, args: Any, kwargs: Any) -> Any:
        if id(layer) in unbuilt and threading.get_ident() == here:
            reached.append(layer)
            raise _Unbuilt
        return call(*args, **kwargs)

    found: list[Any] = []
    with layer_calls(called) if unbuilt else contextlib.nullcontext():
        for training in (False, True):
            try:
                made = model.compute_output_spec(inputs, training=training)
            except Exception:
                if not found or not reached:
                    return True
                made = None
            found.append(tree.map_structure(lambda x: str(getattr(x, "shape", x)), made))
    if found[0] == found[1]:
        return True
    does = "returns something else in training than in inference"
    if reached:
        layer = reached[0]
        does = f"calls {type(layer).__name__} {layer.name!r}, which was never built, in training and not in inference"
    warnings.warn(
        f"{type(model).__name__} {model.name!r} {does}. The functional model that is made of it returns, in training "
        "too, what it returns in inference.",
        stacklevel=6,
    )
    return False


def _held_layers(model: keras.Model) -> Iterator[Layer]:
    """Iterate over the layers that attributes of a model hold: not those that were set anew."""
    own = {id(x) for name, value in vars(model).items() if name not in STORES for x in tree.flatten(plain(value))}
    for layer in sublayers(model):
        if id(layer) in own:
            yield from flatten_layers(layer)


def why(layer: Layer, error: Exception) -> str:
    """Return the message for a `call` that can't be traced, with the user's own line in it."""
    inside = (keras.__path__[0], "site-packages", __file__.rsplit("/", 2)[0], "unittest")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not any(part in f.filename for part in inside)]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}: `{frames[-1].line}`" if frames else ""
    reason = told(error)
    reason = (reason if reason.startswith("Expected ") else reason.split(". ")[0]).rstrip(".")
    return (
        f"Expected the `call` of {type(layer).__name__} {layer.name!r} to use Keras layers and keras.ops alone, so "
        f"that it can be opened into a graph. Received{where}: {reason}. Use keras.ops there, or put that part into "
        "a keras.layers.Layer of its own, which is then kept whole."
    )


def of_unknown_output(layer: Layer, error: Exception) -> str:
    """Return the message for a layer kept whole that doesn't run on symbolic tensors, as a graph needs it."""
    return (
        f"Expected {type(layer).__name__} {layer.name!r} to tell the shapes of what it returns from those of what "
        f"it is given, any number of samples. Received: {told(error).rstrip('.')}. Let its `call` use sizes that are "
        "known (an axis= for squeeze, say), or give it a compute_output_spec."
    )
