"""Scores of which a softmax makes nothing: a mask of -1e9 puts them far below the others of their row.

One scale for both would leave no step to the scores that count. So the sum of scores and mask stays float, and the
range in front of the softmax begins where it makes 0 of what is below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from keras import ops

from tfcompress.core.passthrough import innermost
from tfcompress.graph.affine_forms import constant_map
from tfcompress.graph.index import GraphIndex
from tfcompress.graph.rewrite import Call
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.float_layers import KeptFloat
from tfcompress.quantization.graph.op_policies import AFFINE, INTEGER, TRANSPARENT
from tfcompress.quantization.imbalance.channel_slices import has_layer

FAR = 4.0
"""Times the depth at which a softmax makes 0 of a score: what is further down is masked, and no mere small score."""

MASKED = -1000.0
"""A row without a larger score is masked as a whole: nothing reads what becomes of it."""

LARGE, LARGER = 64.0, 8.0
"""A summand is a mask if it spans more than that, and so many times what the other spans."""


def unmasked(scores: Any, bits: int) -> Any:
    """Return scores of a softmax along the last axis, those that are masked moved up to where it still makes 0 of them.

    >>> scores = ops.convert_to_tensor([[1.0, 0.5, -1e9], [-1e9, -1e9, -1e9]])
    >>> np.round(np.float64(unmasked(scores, 8)), 2).tolist()
    [[1.0, 0.5, -6.34], [0.0, 0.0, 0.0]]
    """
    top = ops.max(scores, axis=-1, keepdims=True)
    depth = (bits + 1) * math.log(2.0) + ops.log(ops.cast(ops.shape(scores)[-1], "float32"))
    near = ops.where(scores < top - FAR * depth, top - depth, scores)
    whole = top < MASKED
    return ops.where(ops.logical_and(whole, ops.logical_not(ops.all(whole))), 0.0, near)


def is_softmax(call: Call) -> bool:
    """Return whether a call is a softmax along the last axis."""
    axis = getattr(innermost(call.operation), "axis", -1)
    return name_of(call.operation) == "softmax" and axis in (-1, [-1], (-1,), len(call.inputs[0].shape) - 1)


def way_to_softmax(x: Any, graph: GraphIndex, kind: Callable[[Call], str]) -> list[Call] | None:
    """Return the maps and sums between a tensor and the softmax that it is for; `None` if it is for something else."""
    found: list[Call] = []
    for reader in graph.readers(x):
        if is_softmax(reader):
            continue
        computes = may_mask(reader, kind) or (kind(reader) == AFFINE and has_layer(reader))
        summed = isinstance(reader.operation, KeptFloat) and name_of(reader.operation) == "add"
        if not (computes or summed or kind(reader) == TRANSPARENT):
            return None
        behind = way_to_softmax(reader.outputs[0], graph, kind)
        if behind is None:
            return None
        found += [*([reader] if computes else []), *behind]
    return found if graph.readers(x) else None


def is_scored(x: Any, graph: GraphIndex, kind: Callable[[Call], str]) -> bool:
    """Return whether a softmax alone reads a tensor, moved at most, and it is no output."""
    return way_to_softmax(x, graph, kind) == [] and not graph.is_output(x)


def may_mask(call: Call, kind: Callable[[Call], str]) -> bool:
    """Return whether a call is a sum of two tensors that integers could compute."""
    return kind(call) == INTEGER and name_of(call.operation) == "add" and len(call.inputs) == 2 and has_layer(call)


def is_mask(spans: Sequence[float]) -> bool:
    """Return whether one of two summands is a mask, by what they span."""
    return max(spans) > LARGE and max(spans) > LARGER * min(spans)


def scaling(x: Any, graph: GraphIndex, kind: Callable[[Call], str], folded: Collection[Call]) -> list[Call]:
    """Return the maps that make a tensor, if a large constant is among them, as for a mask of zeros and ones."""
    found: list[Call] = []
    large = False
    maker = graph.producer(x)
    while maker is not None and len(maker.inputs) == 1 and kind(maker) in (AFFINE, TRANSPARENT):
        if kind(maker) == AFFINE and has_layer(maker):
            found.insert(0, maker)
            constant = constant_map(maker)
            large = large or (constant is not None and bool(np.max(np.abs(constant[0])) > LARGE))
        maker = graph.producer(maker.inputs[0])
    in_kernel = bool(found) and found[0] in folded  # into what no map here makes
    return found if large and not in_kernel else []
