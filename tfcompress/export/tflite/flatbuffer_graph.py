"""One graph of a TFLite file, to be looked at and changed."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfcompress.export.tflite.flatbuffer_tables import FileTables
from tfcompress.graph.index import TensorIndex


class Graph:
    """One graph of a file.

    Args:
        file: The file, which has to live as long.
        graph: The schema's object, which is changed in place.
    """

    def __init__(self, file: FileTables, graph: Any):
        self.file, self.graph = file, graph
        self._index: TensorIndex[Any, int] | None = None
        graph.operators = list(graph.operators or [])
        graph.inputs, graph.outputs = np.array(graph.inputs), np.array(graph.outputs)  # as read, they can't be written

    @property
    def operators(self) -> list[Any]:
        """The schema's operators, in the order in which they run."""
        return self.graph.operators

    @operators.setter
    def operators(self, operators: list[Any]) -> None:
        self.graph.operators = operators
        self._index = None

    @property
    def index(self) -> TensorIndex[Any, int]:
        """What makes and what reads each tensor: found again only when there are other operators."""
        if self._index is None:
            found = ((op, map(int, op.inputs), map(int, op.outputs)) for op in self.operators)
            self._index = TensorIndex(found, map(int, self.graph.outputs))
        return self._index

    @property
    def tensors(self) -> list[Any]:
        """The schema's tensors."""
        return self.graph.tensors

    def name(self, op: Any) -> str:
        """Return what kind of operator `op` is, as in the schema."""
        return self.file.name(op)

    def tensor_name(self, index: int) -> str:
        """Return the name of a tensor."""
        return (self.tensors[index].name or b"").decode()

    def version(self, op: Any) -> int:
        """Return the version of an operator's code."""
        return int(self.file.model.operatorCodes[op.opcodeIndex].version)

    def type(self, index: int) -> str | None:
        """Return the type of a tensor, "FLOAT32"; `None` for one that isn't given (-1)."""
        return self.file.types[self.tensors[index].type] if index >= 0 else None

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of a tensor; a free size counts as 1."""
        shape = self.tensors[index].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def is_vector(self, index: int) -> bool:
        """Return whether a tensor is one vector, and not several or a free number of them."""
        signature = self.tensors[index].shapeSignature
        free = signature is not None and any(int(size) < 0 for size in signature)
        return not free and math.prod(self.shape(index)[:-1]) == 1

    def constant(self, index: int, kind: str = "FLOAT32") -> np.ndarray | None:
        """Return the values of a constant of a type, "FLOAT32" or "FLOAT16"; `None` if it is none."""
        if self.type(index) != kind:
            return None
        data = self.file.model.buffers[self.tensors[index].buffer].data
        if data is None or len(data) == 0:
            return None
        number = {"FLOAT32": "<f4", "FLOAT16": "<f2"}[kind]
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), number).reshape(self.shape(index))

    def add(
        self,
        like: int,
        kind: str,
        *,
        scale: np.ndarray | None = None,
        zero_point: int = 0,
        axis: int = 0,
        data: np.ndarray | None = None,
        suffix: str = "",
        shape: Sequence[int] | None = None,
    ) -> int:
        """Add a tensor of the shape and name of another; return its index.

        Args:
            like: Index of the other.
            kind: Its type, "INT8".
            scale: One value, or one for each place along `axis`; `None`: not quantized.
            zero_point: The integer that stands for zero.
            axis: The quantized one.
            data: For a constant; of that shape, or packed.
            suffix: Put behind the name.
            shape: Another one.
        """
        schema = self.file.schema
        other = self.tensors[like]
        tensor = schema.TensorT()
        tensor.type = getattr(schema.TensorType, kind)
        tensor.name = (other.name or b"") + suffix.encode()
        tensor.shape, tensor.shapeSignature, tensor.hasRank = other.shape, other.shapeSignature, other.hasRank
        if shape is not None:
            tensor.shape, tensor.shapeSignature = np.asarray(shape, np.int32), None
        tensor.buffer = 0 if data is None else self.file.buffer(data)
        if scale is not None:
            scale = np.atleast_1d(np.asarray(scale, np.float32))
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = scale
            tensor.quantization.zeroPoint = np.full(scale.shape, zero_point, np.int64)
            tensor.quantization.quantizedDimension = axis
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def add_in_blocks(self, like: int, data: np.ndarray, scales: int, block: int, shape: Sequence[int]) -> int:
        """Add a constant of integers of 4 bits, a scale for so many of each row; return its index.

        Args:
            like: Index of the tensor whose name it gets.
            data: The integers, packed.
            scales: Index of the constant with the scales.
            block: How many integers of a row share one.
            shape: Of the integers, (rows, integers of each).
        """
        schema = self.file.schema
        made = self.add(like, "INT4", data=data, suffix="/integers", shape=shape)
        details = schema.BlockwiseQuantizationT()
        details.scales, details.zeroPoints, details.blockSize = scales, -1, block
        grid = self.tensors[made].quantization = schema.QuantizationParametersT()
        grid.detailsType, grid.details = schema.QuantizationDetails.BlockwiseQuantization, details
        return made

    def operator(self, name: str, version: int, inputs: Iterable[int], outputs: Iterable[int], like: Any = None) -> Any:
        """Return a new operator, which the caller puts where it runs.

        Args:
            name: As in the schema.
            version: Of its code.
            inputs: Indices of tensors.
            outputs: Indices of tensors.
            like: The operator to take the options from.
        """
        op = copy.copy(like) if like is not None else self.file.schema.OperatorT()
        op.opcodeIndex = self.file.code(name, version)
        op.inputs = np.asarray(list(inputs), np.int32)
        op.outputs = np.asarray(list(outputs), np.int32)
        return op

    def set_input(self, op: Any, place: int, tensor: int) -> None:
        """Let an operator of the graph read another tensor at one of its inputs."""
        if self._index is not None:
            self._index.set_input(op, place, int(op.inputs[place]), tensor)
        op.inputs = np.array(op.inputs)  # as read, it can't be written
        op.inputs[place] = tensor

    def set_border(self, indices: Any, place: int, tensor: int) -> None:
        """Let the graph take or return another tensor, by its signature too.

        Args:
            indices: The graph's inputs or outputs.
            place: Which of them.
            tensor: The other.
        """
        old = int(indices[place])
        indices[place] = tensor
        for signature in self.file.model.signatureDefs or []:
            entries = signature.inputs if indices is self.graph.inputs else signature.outputs
            for entry in entries if self.file.model.subgraphs[signature.subgraphIndex] is self.graph else []:
                entry.tensorIndex = tensor if entry.tensorIndex == old else entry.tensorIndex
        self._index = None

    def leave_out(self, operators: Iterable[Any], instead: Mapping[int, int]) -> None:
        """Drop operators, and let all that reads what they made have other tensors.

        Args:
            operators: Those that go.
            instead: {tensor that one of them makes: the other}.
        """
        for old, new in instead.items():
            for op, place in self.index.readings(old):
                self.set_input(op, place, new)
        gone = set(map(id, operators))
        if gone:
            self.operators = [op for op in self.operators if id(op) not in gone]
        for place, index in enumerate(map(int, self.graph.outputs)):
            if index in instead:
                self.set_border(self.graph.outputs, place, instead[index])

    def drop_unused(self) -> dict[int, int]:
        """Drop the operators and tensors that the outputs don't need; return {old index of a tensor: new}."""
        needed = {int(index) for index in self.graph.outputs}
        kept = []
        for op in reversed(self.operators):
            # Loops and the like may do what no output shows.
            if any(int(index) in needed for index in op.outputs) or self.name(op) not in ("QUANTIZE", "DEQUANTIZE"):
                kept.append(op)
                needed |= {int(index) for index in op.inputs if index >= 0}
        self.operators = kept[::-1]
        used = needed | {int(index) for index in self.graph.inputs}
        for op in kept:
            for indices in (op.outputs, op.intermediates):
                used |= {int(index) for index in (indices if indices is not None else ()) if index >= 0}
        kind = self.file.schema.BlockwiseQuantizationT
        grids = [self.tensors[index].quantization for index in used]
        blocks = [grid.details for grid in grids if grid is not None and isinstance(grid.details, kind)]
        used |= {details.scales for details in blocks}
        places = {old: new for new, old in enumerate(sorted(used))}
        self.graph.tensors = [self.tensors[old] for old in sorted(used)]
        for details in blocks:
            details.scales = places[details.scales]
        for op in kept:
            op.inputs, op.outputs = _moved(op.inputs, places), _moved(op.outputs, places)
            if op.intermediates is not None:
                op.intermediates = _moved(op.intermediates, places)
        self.graph.inputs = _moved(self.graph.inputs, places)
        self.graph.outputs = _moved(self.graph.outputs, places)
        return places


def _moved(indices: Any, places: dict[int, int]) -> np.ndarray:
    return np.asarray([places[int(index)] if index >= 0 else -1 for index in indices], np.int32)
