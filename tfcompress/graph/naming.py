"""Names in a flat graph: each operation has one of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import tree
from keras.layers import Layer

from tfcompress.core.keras_private import producer, producing_node
from tfcompress.core.passthrough import PassThrough
from tfcompress.graph.flat_graph import FlatGraph


def free(name: str, taken: set[str]) -> str:
    """Return the name, with a number behind it if it is taken."""
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate


def nested_name(name: str, parents: Sequence[Layer], taken: set[str]) -> str:
    """Return the name of a layer inside of others: its own where it is free, else one that begins with a parent's.

    Args:
        name: The layer's own name.
        parents: The models and layers around it, the outermost first, without the model that is looked at.
        taken: Names that are given away.

    Example:

    >>> import keras
    >>> attention = keras.layers.MultiHeadAttention(1, 2, name="attention")
    >>> nested_name("query", [attention], set()), nested_name("dense", [keras.Sequential(name="a")], {"dense"})
    ('attention_query', 'a_dense')
    """
    parts = [name]
    for parent in reversed(parents):
        # Names inside of a layer are often alike in all of its kind ("query"), those in a model seldom.
        if isinstance(parent, keras.Model) and "_".join(parts) not in taken:
            break
        parts.insert(0, parent.name)
    return free("_".join(parts), taken)


def rename_duplicates(outputs: Any) -> None:
    """Rename recorded operations (not layers) whose name is taken in the graph that leads to `outputs`."""
    waiting = [producing_node(x) for x in tree.flatten(outputs)]
    operations: dict[int, Any] = {}
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        operations[id(node.operation)] = node.operation
        waiting += map(producing_node, node.input_tensors)
    names: set[str] = set()
    for operation in sorted(operations.values(), key=lambda operation: not isinstance(operation, Layer)):
        if operation.name in names:
            operation.name = free(operation.name, names)
        names.add(operation.name)


def names_of_outputs(model: Any) -> tuple[str, ...]:
    """Return what the outputs of a model are called, in the order of `model.outputs`: the keys of a dict, else layers.

    >>> x = keras.Input((2,))
    >>> names_of_outputs(keras.Model(x, {"b": keras.layers.Dense(1)(x), "a": x}))
    ('a', 'b')
    """
    if isinstance(model, keras.Sequential):
        return (model.layers[-1].name,)
    structure = model.output
    if isinstance(structure, Mapping) and not any(map(tree.is_nested, structure.values())):
        return tuple(tree.flatten({key: key for key in structure}))
    return tuple(getattr(model, "output_names", None) or (output.name for output in model.outputs))


def keep_output_names(graph: FlatGraph, names: Sequence[str]) -> FlatGraph:
    """Return a graph with the given names of outputs.

    What made an output before and still has its name, such as a layer whose activation has become a layer of
    its own, is called "NAME_linear" from then on.

    Args:
        graph: Its layers are renamed.
        names: One for each output.
    """
    if graph.output_names == list(names):
        return graph
    by_name = {operation.name: operation for operation in graph.operations}
    used: set[int] = set()
    made = []
    for output, name in zip(graph.outputs, names, strict=True):
        last = producer(output)
        if last.name != name and (id(last) in used or isinstance(last, keras.layers.InputLayer)):
            renamed = keras.layers.Identity(name=free(name, set(by_name)), dtype=output.dtype)(output)
            last = producer(renamed)
        else:
            renamed = output
        if last.name != name:
            holder = by_name.get(name)
            if holder is not None:
                holder.name = free(f"{name}_linear", set(by_name))
                if isinstance(holder, PassThrough):
                    holder.layer.name = holder.name
                by_name[holder.name] = holder
            last.name = name
            by_name[name] = last
        used.add(id(last))
        made.append(renamed)
    return FlatGraph(graph.input, tree.pack_sequence_as(graph.output, made), graph.name, graph.model_class)
