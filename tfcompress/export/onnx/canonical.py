"""The same ONNX model for the same graph: nodes in an order, and names with numbers, that no other run changes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tfcompress.export.onnx.node_index import captures, index_of, inner_graphs
from tfcompress.export.onnx.static_range import QUANTIZERS

COUNTED = re.compile(r"__\d+(?=$|[:/])|(?<=^einsum)\d+(?=_)|(?:_frozen)+_\d+(?=_|$)")
"""What tf2onnx and TensorFlow put into a name, counting through all that their process has made, or an address."""

MADE = re.compile(r"__\d+(?=$|[:/])|^(const|einsum|new_shape)")
"""The names of constants that tf2onnx made, and of which it keeps any one where several are equal."""


def make_canonical(proto: Any) -> None:
    """Order the nodes and constants of a model by its structure, and number its names anew, in place.

    tf2onnx goes through sets of names, in another order in each process, and numbers what it adds with one counter
    for all models.

    Args:
        proto: An `onnx.ModelProto`; its inputs and outputs keep their names.
    """
    graph = proto.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    entry = next((entry for entry in proto.metadata_props if entry.key == QUANTIZERS), None)
    layers: dict[str, str] = json.loads(entry.value) if entry is not None else {}
    kept |= set(layers.values()) | set(layers)
    # The same nodes have other names and another order: neither says anything.
    nodes, constants = list(_sorted(graph)), {tensor.name: tensor for tensor in graph.initializer}
    names = dict.fromkeys(kept, "")
    names = {name: name for name in names}
    taken = set(names.values())
    for node in nodes:
        _name_all(node, names, taken, set(constants))
    order = {name: place for place, name in enumerate(names)}
    tensors = sorted(constants.values(), key=lambda tensor: order.get(tensor.name, len(order)))
    _rename(nodes, names)
    for tensor in tensors:
        tensor.name = names.get(tensor.name, tensor.name)
    _reorder(graph.node, nodes)
    _reorder(graph.initializer, tensors)
    used = {node.name for node in nodes if not COUNTED.search(node.name)}
    for node in nodes:
        if COUNTED.search(node.name):
            node.name = _fresh(COUNTED.sub("", node.name), used)


def _sorted(graph: Any) -> Iterator[Any]:
    """Yield the nodes, each behind what it reads, as the outputs ask for them; then what none asks for."""
    index = index_of(graph)
    done: set[int] = set()
    roots = [index.producer(value.name) for value in graph.output]
    for root in (*roots, *graph.node):
        stack = [] if root is None else [root]
        while stack:
            node = stack[-1]
            if id(node) in done:
                stack.pop()
                continue
            makers = map(index.producer, (*node.input, *captures(node)))
            waiting = [maker for maker in makers if maker is not None and id(maker) not in done]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            stack.pop()
            done.add(id(node))
            yield node


def _name_all(node: Any, names: dict[str, str], taken: set[str], constants: set[str]) -> None:
    for place, name in enumerate((*node.input, *node.output)):
        if name and name not in names:
            wanted = f"{node.name or node.op_type}/{place}" if name in constants and MADE.search(name) else name
            names[name] = _fresh(COUNTED.sub("", wanted), taken)
    for inner in inner_graphs(node):
        for value in inner.input:
            names.setdefault(value.name, _fresh(COUNTED.sub("", value.name), taken))
        nodes = list(_sorted(inner))
        for each in nodes:
            _name_all(each, names, taken, constants | {tensor.name for tensor in inner.initializer})
        for value in inner.output:
            if value.name not in names:
                names[value.name] = _fresh(COUNTED.sub("", value.name), taken)


def _fresh(name: str, taken: set[str]) -> str:
    made, number = name, 0
    while made in taken:
        number += 1
        made = f"{name}__{number}"
    taken.add(made)
    return made


def _rename(nodes: list[Any], names: dict[str, str]) -> None:
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in inner_graphs(node):
            del inner.value_info[:]
            inner.name = COUNTED.sub("", inner.name)
            ordered = list(_sorted(inner))
            used: set[str] = set()
            _rename(ordered, names)
            for each in ordered:
                each.name = _fresh(COUNTED.sub("", each.name), used)
            for value in (*inner.input, *inner.output, *inner.initializer):
                value.name = names.get(value.name, value.name)
            inner.initializer.sort(key=lambda tensor: tensor.name)
            _reorder(inner.node, ordered)


def _reorder(field: Any, members: list[Any]) -> None:
    """Let a repeated field of a protobuf have its members in another order, without a copy of them."""
    place = {id(member): number for number, member in enumerate(members)}
    field.sort(key=lambda member: place[id(member)])
