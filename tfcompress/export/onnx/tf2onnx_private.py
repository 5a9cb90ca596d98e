"""The private names of tf2onnx: the only module that has them, each with its reason."""

from __future__ import annotations

import functools
from typing import Any


def all_optimizers() -> dict[str, Any]:
    """Return the classes of tf2onnx' optimizers by name, in the order in which they run.

    `optimize_graph` takes such a dict, and some of its own are not wanted.
    Instead: name the classes in `tf2onnx.optimizer` one by one.
    """
    from tf2onnx import optimizer

    return dict(optimizer._get_optimizers())


def optimize_once(optimizer: Any, graph: Any) -> Any:
    """Return a graph as an optimizer leaves it, without what `optimize` writes anew and counts.

    Instead: `optimizer.optimize(graph, iteration)`, which takes a third of the memory and of the time more.
    """
    return optimizer._optimize(graph)


@functools.cache
def without_copied_sizes() -> Any:
    """Return tf2onnx' merger of equal neighbours, which leaves reshapes alone whose 0 is a size of the first's.

    Without the first, the 0 would copy a size of what that one reshapes.
    Instead: leave the optimizer "remove_back_to_back" out.
    """
    from tf2onnx.optimizer import BackToBackOptimizer

    class BackToBack(BackToBackOptimizer):
        def _optimize_at_current_graph_level(self, g: Any) -> Any:
            copying = [node for node in g.get_nodes() if node.type == "Reshape" and _copies_a_size(node)]
            for node in copying:
                node.type = "CopyingReshape"
            try:
                return super()._optimize_at_current_graph_level(g)
            finally:
                for node in copying:
                    node.type = "Reshape"

    return BackToBack


def _copies_a_size(node: Any) -> bool:
    """Return whether a reshape of another reshape's output has a 0 in its shape."""
    first, shape = node.inputs
    if first is None or first.type != "Reshape" or not shape.is_const():
        return False
    return 0 in shape.get_tensor_value(as_list=False)
