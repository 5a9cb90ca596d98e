"""The tensors of a TFLite graph on their way to integers: float, or on a grid; the other form is made where needed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.quantization.numerics.grid import Grid


class IntegerTensors:
    """Which tensors of a graph lie on grids, and the operators that it has in the end.

    Args:
        graph: The main graph, of which each tensor stays float; its integers are another one.

    Attributes:
        operators: Those that were emitted, in the order in which they run.
        grid: Of each tensor that lies on one.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.operators: list[Any] = []
        self.grid: dict[int, Grid] = {}
        self._integers: dict[int, int] = {}
        self._floating: set[int] = set()  # those on a grid whose float values are there too
        self._regridded: dict[tuple[int, Grid], int] = {}

    def emit(self, name: str, version: int, inputs: Iterable[int], outputs: Iterable[int], like: Any = None) -> Any:
        """Add an operator behind the others; return it."""
        self.operators.append(self.graph.operator(name, version, inputs, outputs, like))
        return self.operators[-1]

    def keep(self, op: Any) -> None:
        """Add an operator that stays float, behind what makes floats of its inputs."""
        for index in map(int, op.inputs):
            self.make_float(index)
        self.operators.append(op)

    def new(self, like: int, grid: Grid, data: np.ndarray | None = None) -> int:
        """Return a new tensor of integers of the shape of another; with `data` a constant."""
        scale, suffix = np.float32(grid.scale), "" if data is None else "/integers"
        return self.graph.add(like, grid.type, scale=scale, zero_point=grid.zero_point, data=data, suffix=suffix)

    def place(self, index: int, grid: Grid) -> int:
        """Say that a tensor lies on a grid; return the new tensor for its integers."""
        self.grid[index], self._integers[index] = grid, self.new(index, grid)
        return self._integers[index]

    def alias(self, source: int, index: int) -> None:
        """Say that a tensor has the integers of another."""
        self.grid[index], self._integers[index] = self.grid[source], self._integers[source]

    def stored(self, index: int) -> int:
        """Return the integers of a tensor; itself, if it lies on no grid."""
        return self._integers.get(index, index)

    def ready(self, index: int, bits: int) -> bool:
        """Return whether there are integers of so many bits of a tensor, or can be, as it is constant."""
        if index in self.grid:
            return self.grid[index].bits == bits
        return self.graph.constant(index) is not None

    def make_float(self, index: int) -> None:
        """Let the float values of a tensor be there."""
        if index in self.grid and index not in self._floating:
            version = 2 if self.grid[index].bits == 8 else 3
            self.emit("DEQUANTIZE", version, [self._integers[index]], [index])
            self._floating.add(index)

    def round_input(self, index: int, grid: Grid) -> None:
        """Quantize a tensor that is there in float."""
        self._quantize(index, self.place(index, grid), grid)
        self._floating.add(index)

    def quantize(self, source: int, index: int, grid: Grid) -> None:
        """Let a tensor be another, rounded to a grid."""
        if source in self.grid:
            self.grid[index], self._integers[index] = grid, self.on(source, grid)
        else:
            self._quantize(source, self.place(index, grid), grid)

    def on(self, index: int, grid: Grid, exact: bool = False) -> int:
        """Return the integers on a grid of a tensor that lies on one.

        With `exact` a scale that is another in its last digits is another one, as it is for what joins tensors.
        """
        if grid == self.grid[index] or (not exact and grid.close(self.grid[index])):
            return self._integers[index]
        key = self._integers[index], grid
        if key not in self._regridded:
            source = self._integers[index]
            if grid.bits != self.grid[index].bits:  # no kernel goes from 8 bits to 16, or back
                self.make_float(index)
                source = index
            self._regridded[key] = self.new(index, grid)
            self._quantize(source, self._regridded[key], grid)
        return self._regridded[key]

    def _quantize(self, source: int, index: int, grid: Grid) -> None:
        self.emit("QUANTIZE", 1 if grid.bits == 8 else 2, [source], [index])
