"""A lowered graph with its placement: what reads an input, what is computed together, what is an output."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np

from tfcompress.core.keras_private import producer
from tfcompress.core.passthrough import innermost
from tfcompress.core.sharding import gathered
from tfcompress.graph import kernel_positions
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.index import index_of
from tfcompress.graph.rewrite import Call
from tfcompress.quantization.graph.channel_slices import has_layer
from tfcompress.quantization.graph.float_layers import KeptFloat, kept_reason
from tfcompress.quantization.graph.layer_precisions import LayerPrecisions
from tfcompress.quantization.graph.op_policies import AFFINE, CONCATENATE, FLOAT, INTEGER, KERNEL, RELU, TRANSPARENT
from tfcompress.quantization.graph.placement import Placement, place
from tfcompress.quantization.graph.surroundings import scale_and_offset
from tfcompress.quantization.imbalance.lost_channels import (
    DIFFER,
)
from tfcompress.quantization.quantize_config import ActivationSpec, QuantizeConfig

Includes = Callable[[Any], bool]


class PlacedGraph:
    """A lowered graph, and how each of its calls is to be quantized."""

    def __init__(
        self, lowered: FlatGraph, precisions: LayerPrecisions, includes: Includes, apart: Collection[str] = ()
    ):
        self.lowered, self.static = lowered, precisions.static
        self.graph = index_of(lowered)
        self.configs = precisions.of_calls(self.graph)
        # Where no activation is rounded, kernels are looked at as if those that they read were.
        rounded = {call: self.with_activations(call) for call in self.configs}
        self.placement: Placement = place(self.graph, self.configs if self.static else rounded, includes, apart)

    def kind(self, call: Call) -> str:
        """Return what kind of rule a call has in the placement."""
        return self.placement.rules[call].kind

    def spec(self, call: Call) -> ActivationSpec:
        """Return how a call's activations are rounded; if they aren't, at run time."""
        return self.configs[call].activations or ActivationSpec(dynamic=True)

    def with_activations(self, call: Call) -> QuantizeConfig:
        """Return the config of a call, with activations that are rounded."""
        config = self.configs[call]
        blocks = config.weights.block is not None  # which don't go with them
        weights = dataclasses.replace(config.weights, granularity="per_channel") if blocks else config.weights
        return dataclasses.replace(config, weights=weights, activations=self.spec(call))

    def spec_at(self, x: Any) -> ActivationSpec:
        """Return how a tensor that is quantized is rounded."""
        config = self.placement.configs.get(id(x))
        assert config is not None and config.activations is not None
        return config.activations

    def from_input(self, x: Any) -> bool:
        """Return whether a tensor is an input of the model, or made of inputs in float without weights."""
        before = self.graph.producer(x)
        if before is None:
            return True
        on = [y for y in before.inputs if keras.backend.is_float_dtype(y.dtype)]
        kept = isinstance(before.operation, KeptFloat) and not kernel_positions(before.operation)
        plain = kept or not getattr(before.operation, "weights", ())
        moved = self.kind(before) == TRANSPARENT or (self.kind(before) == FLOAT and plain)
        return moved and all(map(self.from_input, on))

    def chain(self, call: Call) -> list[Call]:
        """Return an affine map or kernel and what is computed together with it: maps folded into it, a ReLU."""
        found = [call]
        while True:
            readers = self.graph.readers(found[-1].outputs[0])
            together = len(readers) == 1 and (readers[0] in self.placement.folded or self.kind(readers[0]) == RELU)
            if self.kind(call) not in (AFFINE, KERNEL) or not together:
                return found
            found.append(readers[0])

    def scale(self, call: Call, channels: int) -> np.ndarray | None:
        """Return the size of the scale of each channel of an affine map, with those folded into it."""
        total = np.ones(channels)
        for one in (each for each in self.chain(call) if self.kind(each) == AFFINE):
            found = scale_and_offset(one)
            if found is None:
                return None
            total = total * np.abs(np.asarray(gathered(found[0]), np.float64))
        return total

    def ends_of(self, x: Any) -> tuple[bool, list[Call]]:
        """Return whether a tensor, or what is moved from it, is an output of the model, and which calls read it."""
        is_output, found = self.graph.is_output(x), []
        for reader in self.graph.readers(x):
            if self.kind(reader) != TRANSPARENT:
                found.append(reader)
                continue
            for y in reader.outputs:
                output, more = self.ends_of(y)
                is_output, found = is_output or output, found + more
        return is_output, list(dict.fromkeys(found))

    def is_end(self, x: Any) -> bool:
        """Return whether a tensor that is made here is an output of the model, or goes there in float for its size."""
        maker = self.graph.producer(x)
        if maker is None or self.kind(maker) not in (KERNEL, AFFINE, RELU, INTEGER):
            return False
        is_output, readers = self.ends_of(x)
        return is_output or any((kept_reason(one.operation) or "").startswith(DIFFER) for one in readers)

    def made_with(self, x: Any) -> list[Call]:
        """Return what makes a tensor, and what is computed together with it; nothing where that is float already."""
        found: list[Call] = []
        maker = self.graph.producer(x)
        while maker is not None and self.kind(maker) in (KERNEL, AFFINE, RELU, INTEGER, CONCATENATE):
            found.insert(0, maker)
            x = maker.inputs[0]
            together = maker in self.placement.folded or self.kind(maker) == RELU
            maker = self.graph.producer(x) if together and id(x) not in self.placement.tensors else None
        return found

    def can_stay_float(self, call: Call) -> bool:
        """Return whether a call's operation is, or can be made, a layer, which alone is kept float."""
        return self.kind(call) == KERNEL or has_layer(call)


def has_channels(x: Any) -> bool:
    """Return whether a tensor has a last axis, of known size, behind the batch."""
    return len(x.shape) > 1 and x.shape[-1] is not None


def joins_channels(call: Call) -> bool:
    """Return whether a concatenation is along the channels."""
    axis = getattr(innermost(call.operation), "axis", -1)
    return axis in (-1, len(call.inputs[0].shape) - 1) and all(map(has_channels, call.inputs))


def tensor_name(x: Any) -> str:
    """Return what messages call a tensor: the operation that makes it."""
    return str(producer(x).name)


def joined_names(found: list[Call]) -> str:
    """Return the names of calls' operations, as messages list them."""
    return " with ".join(repr(call.operation.name) for call in found)
