"""Names in a flat graph: each operation has one of its own."""

from __future__ import annotations

from typing import Any

from keras import tree
from keras.layers import Layer


def free(name: str, taken: set[str]) -> str:
    """Return the name, with a number behind it if it is taken."""
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate


def rename_duplicates(outputs: Any) -> None:
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
            operation.name = free(operation.name, names)
        names.add(operation.name)
