"""Weights of 4 bits with a scale for each block of inputs, as LiteRT's dense kernel takes them.

The kernel rounds its input to 8 bits at run time, each vector in its own range. Scales are bfloat16 numbers in float16.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from tfcompress.export.plan.planned_weights import PlannedWeights, digest
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.export.tflite.weights.constants import CONNECTED
from tfcompress.export.tflite.weights.packed_integers import pack
from tfcompress.quantization.encoding import Affine

VERSION = 12
"""Of the operator's code, from which on weights of 4 bits go with inputs that are rounded at run time."""

TOLERANCE = 2.0**-8
"""Of the largest scale: what a scale may lose in the file."""

STORED = "for a kernel that rounds its input to 8 bits at run time; scales as bfloat16"
"""What is said of weights that are stored so."""


def in_blocks(graph: Graph, op: Any, place: int, found: Affine, weights: PlannedWeights) -> Any:
    """Return an operator that reads weights in blocks, in place of one with float weights.

    Args:
        graph: Of both.
        op: With float weights.
        place: Of the weights among its inputs.
        found: Its weights, (outputs, inputs), a scale for each block of inputs.
        weights: Of the model; it notes how these are stored, and that the operator rounds its input.

    Raises:
        ValueError: There is no kernel for that operator, or the scales are too small for float16.
    """
    like = int(op.inputs[place])
    if graph.name(op) != CONNECTED or len(found.shape) != 2 or len(found.scale) not in (1, found.shape[0]):
        raise ValueError(
            f"Expected weights in blocks in dense layers that become {CONNECTED}: LiteRT has no other kernel for them. "
            f"Received: {graph.name(op)} with {graph.tensor_name(like)!r}. Quantize that layer with "
            "granularity='per_channel', or export to .onnx."
        )
    scale = np.broadcast_to(found.scale, (found.shape[0], found.scale.shape[1]))
    halves = scale.astype(ml_dtypes.bfloat16).astype(np.float16)
    lost = np.abs(halves.astype(np.float32) - scale)
    used = found.integers.reshape(*scale.shape, -1).any(axis=2)  # the scale of nothing but zeros says nothing
    if not np.all(lost[used] <= TOLERANCE * scale[used].max(initial=0)):
        raise ValueError(
            "Expected weights whose scales float16 holds, in which LiteRT has those of blocks. Received: scales from "
            f"{scale[used].min():.3g} to {scale[used].max():.3g} in {graph.tensor_name(like)!r}. Quantize that layer "
            "with granularity='per_channel', or export to .onnx."
        )
    weights.stored.setdefault(digest(found.integers), {})["int4"] = STORED
    weights.note_rounding(found)
    scales = graph.add(like, "FLOAT16", data=halves.reshape(-1).view(np.uint8), suffix="/scales", shape=scale.shape)
    block = found.shape[1] // scale.shape[1]
    integers = graph.add_in_blocks(like, pack(found.integers, 4), scales, block, found.shape)
    inputs = [int(index) for index in op.inputs]
    inputs[place] = integers
    return graph.operator(CONNECTED, max(VERSION, graph.version(op)), inputs, op.outputs, op)
