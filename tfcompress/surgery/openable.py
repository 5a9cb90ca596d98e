"""What may be opened, what can't be, and how to say so."""

from __future__ import annotations

import ast
import inspect
import textwrap
import traceback
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.layers import Layer

from tfcompress.passthrough import PassThrough, innermost
from tfcompress.surgery.copying import has_mask

# Layers of Keras that are plain graphs of layers; all others of Keras' own are left whole.
_COMPOSITE = ("MultiHeadAttention", "GroupedQueryAttention", "Pipeline")


def may_open(layer: Layer, arguments: Any) -> bool:
    """Return whether a layer is made of layers only, so that its `call` may be a plain graph of them."""
    if isinstance(layer, PassThrough) or not layer._layers or not passes_training_on(layer):
        return False
    if type(layer).__module__.startswith("keras."):
        if type(layer).__name__ not in _COMPOSITE:
            return False
    elif layer._trainable_variables or layer._non_trainable_variables or layer._seed_generators:
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
    if not type(inner).__module__.startswith("keras."):
        return "it is a layer whose `call` can't be opened"
    return "it gets a Keras mask and can't be opened; leave mask_zero out and pass attention_mask= explicitly"


def passes_training_on(layer: Layer) -> bool:
    """Return whether a `call` does nothing with `training` but pass it on; a model may also say `if training:`."""
    if type(layer).__module__.startswith("keras."):
        return True
    try:
        parsed = ast.parse(textwrap.dedent(inspect.getsource(type(layer).call)))
    except (OSError, TypeError, SyntaxError):
        return True
    allowed = [keyword.value for node in ast.walk(parsed) if isinstance(node, ast.Call) for keyword in node.keywords]
    if isinstance(layer, keras.Model):
        allowed += [node.test for node in ast.walk(parsed) if isinstance(node, ast.If | ast.IfExp)]
    known = {id(node) for node in allowed}
    used = [node for node in ast.walk(parsed) if isinstance(node, ast.Name) and node.id == "training"]
    return all(id(node) in known for node in used)


def weight_in_graph(outputs: Any, inputs: set[int]) -> str | None:
    """Return the path of a variable that is an argument of an operation between tensors, if there is one."""
    waiting = [x for x in tree.flatten(outputs) if id(x) not in inputs]
    seen: set[int] = set()
    while waiting:
        operation, node_index, _ = waiting.pop()._keras_history
        node = operation._inbound_nodes[node_index]
        if id(node) in seen:
            continue
        seen.add(id(node))
        arguments = tree.flatten((node.arguments.args, node.arguments.kwargs))
        found = next((x.path for x in arguments if isinstance(x, keras.Variable)), None)
        if found is not None:
            return str(found)
        waiting += [x for x in node.input_tensors if id(x) not in inputs]
    return None


def why(layer: Layer, error: Exception) -> str:
    """Return the message for a `call` that can't be traced, with the user's own line in it."""
    inside = (keras.__path__[0], "site-packages", __file__.rsplit("/", 1)[0], "unittest")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not any(part in f.filename for part in inside)]
    where = f" at {frames[-1].filename}:{frames[-1].lineno}: `{frames[-1].line}`" if frames else ""
    reason = (str(error).strip() or type(error).__name__).split("\n")[0].split(". ")[0].rstrip(".")
    return (
        f"Expected the `call` of {type(layer).__name__} {layer.name!r} to use Keras layers and keras.ops alone, so "
        f"that it can be opened into a graph. Received{where}: {reason}. Use keras.ops there, or put that part into "
        "a keras.layers.Layer of its own, which is then kept whole."
    )


def close(old: list[np.ndarray], new: list[np.ndarray]) -> bool:
    """Return whether all outputs agree to within float16's precision of the largest."""
    for want, got in zip(old, new, strict=True):
        scale = float(np.max(np.abs(want[np.isfinite(want)]), initial=0.0))
        if want.shape != got.shape or not np.allclose(want, got, rtol=0, atol=2e-3 * scale + 1e-6, equal_nan=True):
            return False
    return True
