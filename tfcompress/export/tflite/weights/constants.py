"""The weights of a TFLite graph as constants of integers."""

from __future__ import annotations

import math
from typing import Any

from tfcompress.export.plan.planned_weights import PlannedWeights, digest
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.export.tflite.integer_operators import KernelRule
from tfcompress.export.tflite.weights.packed_integers import pack
from tfcompress.export.tflite.weights.storage import UNPACKED, Storage, choose
from tfcompress.quantization.encoding import Affine

CONNECTED = "FULLY_CONNECTED"


class StoredWeights:
    """Makes the constants; what several operators share is stored once.

    Args:
        graph: Where they are used.
        weights: Of the model; it notes how each is stored.
        prefer: "speed" or "size", where both can't be had.
        loop: Whether the graph is the body of a loop.
    """

    def __init__(self, graph: Graph, weights: PlannedWeights, prefer: str, *, loop: bool = False):
        self._graph, self._weights, self._prefer, self._loop = graph, weights, prefer, loop
        self._known: dict[tuple[int, bytes, Storage, str], int] = {}

    def choose(self, op: Any, rule: KernelRule, found: Affine, activations: str) -> tuple[str, Storage]:
        """Return which operator is to do the work of one, and how the file stores its weights for that.

        A convolution of single pixels is a dense kernel on each of them, which has 4 bits where convolutions don't.

        Args:
            op: With float weights.
            rule: Of it.
            found: Its weights.
            activations: Their type.
        """
        name = self._graph.name(op)
        several = not self._graph.is_vector(int(op.inputs[rule.data]))
        storage = choose(name, activations, found, self._prefer, several=several)
        if name == "CONV_2D" and activations == "INT8" and self._of_pixels(op, rule, found):
            dense = choose(CONNECTED, activations, found, self._prefer, several=several)
            if dense.bits <= min(storage.bits, 4):
                return CONNECTED, dense
        return name, storage

    def choose_unpacked(self, op: Any, found: Affine) -> Storage:
        """Return how the file stores weights that an operator gets as floats."""
        if self._loop and found.bits < 8:
            return Storage("INT8", "a loop reads it, which would unpack it in every step")
        several = not self._graph.is_vector(int(op.inputs[0]))
        return choose(self._graph.name(op), UNPACKED, found, self._prefer, several=several)

    def constant(self, like: int, axis: int, found: Affine, storage: Storage, operator: str) -> int:
        """Return a constant of integers.

        Args:
            like: The one of floats.
            axis: Of its channels.
            found: The integers.
            storage: How they are stored.
            operator: That reads it.
        """
        scales = found.scale.reshape(-1)
        key = like, scales.tobytes(), storage, operator
        if key not in self._known:
            self._weights.stored.setdefault(digest(found.integers), {})[storage.type.lower()] = storage.why
            shape = found.shape if operator != CONNECTED else (found.shape[0], math.prod(found.shape[1:]))
            self._known[key] = self._graph.add(
                like,
                storage.type,
                scale=scales,
                axis=axis,
                data=pack(found.integers, storage.bits),
                suffix="/integers",
                shape=shape,
            )
        return self._known[key]

    def _of_pixels(self, op: Any, rule: KernelRule, found: Affine) -> bool:
        """Return whether a convolution multiplies each pixel for itself."""
        options = op.builtinOptions
        channels = self._graph.shape(int(op.inputs[rule.data]))[-1]
        return found.shape[1:3] == (1, 1) and options.strideH == options.strideW == 1 and found.shape[3] == channels
