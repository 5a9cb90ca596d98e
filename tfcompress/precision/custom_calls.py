"""What a layer of the user's own computes in its `call`, read from a symbolic run of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import tree
from keras.layers import Layer

from tfcompress.core.keras_private import (
    computing_in,
    flatten_layers,
    inbound_nodes,
    outbound_nodes,
    own_policy,
    producing_node,
    set_policy,
)
from tfcompress.core.locking import no_warnings
from tfcompress.graph.rewrite import Call, call_of
from tfcompress.precision.operation_kinds import dtype_of


def operations_in_half(layer: Layer, call: Call, dtype: str) -> list[Call] | None:
    """Return the operations, and layers inside, that would be given 16-bit numbers if a layer computed in them.

    The layer's `call` runs on symbolic tensors, with the policy of that dtype; what it casts to float32 itself is
    therefore left out. Nothing of the layer is changed when it is done.

    Args:
        layer: Of a class of the user's own.
        call: How it is called in the graph.
        dtype: "float16" or "bfloat16".

    Returns:
        The calls; `None` if the `call` can't be run on symbolic tensors, as one that uses a backend's functions.
    """

    def halved(x: Any) -> Any:
        if not keras.utils.is_keras_tensor(x):
            return x
        casts = layer.autocast and keras.backend.is_float_dtype(x.dtype)
        return keras.KerasTensor(x.shape, dtype if casts else x.dtype)

    arguments, keywords = tree.map_structure(halved, (call.arguments, call.keywords))
    given = {id(x) for x in tree.flatten((arguments, keywords)) if keras.utils.is_keras_tensor(x)}
    try:
        with _in_half(layer, f"mixed_{dtype}"), computing_in(dtype if layer.autocast else None):
            outputs = layer.call(*arguments, **keywords)
        found: dict[int, Call] = {}
        to_see = [x for x in tree.flatten(outputs) if keras.utils.is_keras_tensor(x)]
        while to_see:
            x = to_see.pop()
            if id(x) in given:
                continue
            node = producing_node(x)
            if id(node) not in found:
                found[id(node)] = call_of(node)
                to_see += node.input_tensors
    except Exception:
        return None
    return [made for made in found.values() if any(dtype_of(x) == dtype for x in made.inputs)]


@contextlib.contextmanager
def _in_half(layer: Layer, policy: str) -> Iterator[None]:
    """Give a layer a policy, and let neither losses nor recorded calls stay behind."""
    with no_warnings(), contextlib.ExitStack() as undo:
        for part in flatten_layers(layer):
            if part.compute_dtype in ("float32", "float16", "bfloat16"):
                undo.callback(set_policy, part, own_policy(part))
                set_policy(part, keras.DTypePolicy(policy))
            undo.callback(_forget, inbound_nodes(part), len(inbound_nodes(part)))
            undo.callback(_forget, outbound_nodes(part), len(outbound_nodes(part)))
            # A symbolic tensor is none of those that `add_loss` takes.
            object.__setattr__(part, "add_loss", lambda loss: None)
            undo.callback(object.__delattr__, part, "add_loss")
        yield


def _forget(nodes: list[Any], length: int) -> None:
    del nodes[length:]
