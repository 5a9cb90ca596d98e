"""An ONNX graph that can be rewritten: what makes and what reads each tensor is kept up to date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfcompress.export.onnx.detached_constants import without_large_constants
from tfcompress.export.onnx.node_index import captures
from tfcompress.graph.index import TensorIndex


class Graph:
    """The nodes and constants of an `onnx.GraphProto`, to be changed and then written back by `finish`.

    Tensors that subgraphs use (bodies of Loop, If, Scan) count as outputs: they are neither renamed nor dropped.

    Args:
        proto: An `onnx.ModelProto`.
        detached: The values of constants that it lacks, by name: `finish` writes those of all.

    Attributes:
        constants: {name: array}, in place of the initializers.
        shapes: {tensor name: tuple of sizes, None where it is free}, as far as shape inference knows.
    """

    def __init__(self, proto: Any, detached: Mapping[str, bytes] | None = None):
        import onnx

        def array(tensor: Any) -> np.ndarray:
            if tensor.name not in (detached or {}):
                return np.asarray(onnx.numpy_helper.to_array(tensor))
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            return np.frombuffer((detached or {})[tensor.name], dtype).reshape(tensor.dims)

        self.proto = proto
        inferred = onnx.shape_inference.infer_shapes(without_large_constants(proto), data_prop=True).graph
        graph = proto.graph
        self.inputs = [value.name for value in graph.input]
        self.constants = {tensor.name: array(tensor) for tensor in graph.initializer}
        self.shapes: dict[str, tuple[int | None, ...]] = {
            value.name: _sizes(value) for value in [*inferred.value_info, *graph.input, *graph.output] if _ranked(value)
        }
        self.shapes.update((name, value.shape) for name, value in self.constants.items())
        self._needed = [value.name for value in graph.output]
        self._needed += dict.fromkeys(name for node in graph.node for name in captures(node))
        self._nodes: dict[int, Any] = {}  # by `id`
        self._index: TensorIndex[Any, str] = TensorIndex(outputs=self._needed)
        made: set[str] = set()
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
                self.shapes[node.output[0]] = self.constants[node.output[0]].shape
                continue
            self.attach(node)
            made.update(node.output)
        nodes = {node.name for node in graph.node}
        self._taken = {*made, *self.constants, *self.inputs, *nodes, *self._needed}

    def attach(self, node: Any) -> None:
        """Add a node whose outputs have new names."""
        self._nodes[id(node)] = node
        self._index.add(node, node.input, node.output)

    # Reading ----------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[Any]:
        """The nodes: in topological order as far as they were there from the start; what was added stands behind."""
        return list(self._nodes.values())

    def of_type(self, *types: str) -> list[Any]:
        """Return the nodes of these operators of the standard domain, as they are now."""
        return [node for node in self.nodes if node.op_type in types and node.domain in ("", "ai.onnx")]

    def producer(self, name: str, *types: str) -> Any | None:
        """Return the node that makes a tensor; None for inputs and constants, or if it isn't one of `types`."""
        node = self._index.producer(name)
        return node if node is not None and (not types or node.op_type in types) else None

    def readers(self, name: str) -> list[Any]:
        """Return the nodes that read a tensor, each once."""
        return list({id(node): node for node in self._index.readers(name)}.values())

    def is_output(self, name: str) -> bool:
        """Whether something else than a node of this graph reads a tensor: the caller, or a subgraph."""
        return self._index.is_output(name)

    def only_reader(self, name: str, *types: str) -> Any | None:
        """Return the node that alone reads a tensor, if it is one of `types` and nothing else needs the tensor."""
        nodes = self.readers(name)
        if len(nodes) != 1 or self.is_output(name) or (types and nodes[0].op_type not in types):
            return None
        return nodes[0]

    def rank(self, name: str) -> int | None:
        """Return the number of a tensor's dimensions, None if it isn't known."""
        return len(self.shapes[name]) if name in self.shapes else None

    # Writing ----------------------------------------------------------------------------------------------------

    def fresh(self, hint: str) -> str:
        """Return a name that nothing has or had, `hint` if it is free; it is taken from now on."""
        name, count = hint, 1
        while name in self._taken:
            count += 1
            name = f"{hint}_{count}"
        self._taken.add(name)
        return name

    def constant(self, hint: str, value: np.ndarray) -> str:
        """Add a constant; return its name."""
        name = self.fresh(hint)
        self.constants[name] = value
        self.shapes[name] = value.shape
        return name

    def add(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node that makes the tensor `output`, a new name; return that name."""
        import onnx

        name = self.fresh(f"{output}/{op_type}")
        self.attach(onnx.helper.make_node(op_type, list(inputs), [output], name, **attributes))
        return output

    def set_input(self, node: Any, index: int, name: str) -> None:
        """Let a node read another tensor at one of its inputs."""
        self._index.set_input(node, index, node.input[index], name)
        node.input[index] = name

    def append_input(self, node: Any, name: str) -> None:
        """Give a node one more input."""
        node.input.append("")
        self.set_input(node, len(node.input) - 1, name)

    def replace(self, old: str, new: str) -> None:
        """Let every node that reads `old` read `new`."""
        for node, index in self._index.readings(old):
            self.set_input(node, index, new)

    def rename(self, old: str, new: str) -> None:
        """Give a tensor that a node makes another name, a free one."""
        node = self._index.set_output(old, new)
        node.output[list(node.output).index(old)] = new
        if old in self.shapes:
            self.shapes[new] = self.shapes.pop(old)
        self.replace(old, new)

    def remove(self, node: Any) -> None:
        """Take a node out. What read its outputs must read something else by now."""
        self._nodes.pop(id(node), None)
        self._index.remove(node, node.input, node.output)

    def bypass(self, node: Any) -> None:
        """Take out a node of one output, and let all readers have its first input instead.

        An output of the graph keeps its name: then the input, if this node alone reads it, takes that name.
        """
        before, after = node.input[0], node.output[0]
        self.remove(node)
        if self.is_output(after):
            self.rename(before, after)
        else:
            self.replace(after, before)

    def sort(self) -> None:
        """Bring the nodes into topological order."""
        self._nodes = {id(node): node for node in self._sorted()}

    def finish(self) -> None:
        """Write nodes and constants back to the proto, sorted, without what nothing needs; constants are given up."""
        import onnx

        graph = self.proto.graph
        self._drop_unused()
        order = list(self._sorted())
        used = {name for node in order for name in node.input} | set(self._needed)
        del graph.node[:]
        del graph.initializer[:]
        del graph.value_info[:]
        graph.node.extend(order)
        for name in [name for name in self.constants if name not in used]:
            del self.constants[name]  # before others are copied: most are the floats of what is now integers
        for name in list(self.constants):
            graph.initializer.append(onnx.numpy_helper.from_array(self.constants.pop(name), name))

    def _drop_unused(self) -> None:
        needed: set[int] = set()
        stack = self._makers(self._needed)
        while stack:
            node = stack.pop()
            if id(node) not in needed:
                needed.add(id(node))
                stack.extend(self._makers(node.input))
        self._nodes = {place: node for place, node in self._nodes.items() if place in needed}

    def _makers(self, names: Iterable[str]) -> list[Any]:
        """Return the nodes that make tensors; inputs and constants have none."""
        return [node for node in map(self._index.producer, names) if node is not None]

    def _sorted(self) -> Iterator[Any]:
        done: set[int] = set()
        for root in self.nodes:
            stack = [root]
            while stack:
                node = stack[-1]
                makers = self._makers([*node.input, *captures(node)])
                waiting = [maker for maker in makers if id(maker) not in done]
                if waiting and id(node) not in done:
                    stack.extend(waiting)
                    continue
                stack.pop()
                if id(node) not in done:
                    done.add(id(node))
                    yield node


def attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a node as Python values."""
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def set_attribute(node: Any, name: str, value: Any) -> None:
    """Set an attribute of a node, or replace it."""
    import onnx

    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def _ranked(value: Any) -> bool:
    return bool(value.type.tensor_type.HasField("shape"))


def _sizes(value: Any) -> tuple[int | None, ...]:
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)
