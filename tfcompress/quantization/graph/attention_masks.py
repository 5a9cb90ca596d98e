"""Where a graph adds masks to the scores of an attention: a sum of scores and a mask of -1e9 stays float."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from tfcompress.core.passthrough import innermost
from tfcompress.graph.affine_forms import constant_map
from tfcompress.graph.index import GraphIndex
from tfcompress.graph.rewrite import Call
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.channel_slices import has_layer
from tfcompress.quantization.graph.float_layers import KeptFloat
from tfcompress.quantization.graph.op_policies import AFFINE, INTEGER, TRANSPARENT

LARGE, LARGER = 64.0, 8.0
"""A summand is a mask if it spans more than that, and so many times what the other spans."""


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
