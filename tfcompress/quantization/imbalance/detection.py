"""Tensors whose channels differ too much in size for the one scale that an integer tensor has.

Looked at are the places where values of different kinds meet, or part: the model's inputs, concatenations, tensors of
whose channels parts are taken, and the model's outputs. Channels of one kernel's output also differ, by a factor of 10
to 50 as a rule; they were made, and are read, together, and 8 bits do well there, so they are left alone. A channel
counts as lost where rounding to the common grid changes it by more than a sixteenth of its standard deviation, measured
on the data (so a constant channel is none, and neither are whole numbers that the grid holds exactly), and where what
reads it makes something of it.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np

from tfcompress.core.passthrough import innermost
from tfcompress.core.sharding import gathered
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.rewrite import Call
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.attention_masks import is_mask, may_mask, scaling, way_to_softmax
from tfcompress.quantization.graph.channel_slices import has_layer, sliced
from tfcompress.quantization.graph.layer_precisions import LayerPrecisions
from tfcompress.quantization.graph.op_policies import AFFINE, CONCATENATE, FLOAT, KERNEL, RELU
from tfcompress.quantization.graph.surroundings import scale_and_offset
from tfcompress.quantization.imbalance.channel_parts import is_lost, parts_of
from tfcompress.quantization.imbalance.graph_changes import GraphChanges, apply_changes
from tfcompress.quantization.imbalance.kernel_rows import lost_in_rows
from tfcompress.quantization.imbalance.lost_channels import (
    gains_of,
    lost_at_end,
    lost_behind,
    lost_in_sum,
    reason,
    said,
    said_of_rows,
)
from tfcompress.quantization.imbalance.placed_graph import (
    Includes,
    PlacedGraph,
    has_channels,
    joined_names,
    joins_channels,
    tensor_name,
)
from tfcompress.quantization.imbalance.precision_left import FEW, Spread, measure

ROUNDS = 8
"""How often a changed graph is looked at again: moving a map onto branches may bring it in front of an input."""


def resolve_imbalance(
    lowered: FlatGraph,
    precisions: LayerPrecisions,
    includes: Includes,
    data: Any,
    batch_size: int,
    *,
    integers_only: bool = False,
) -> tuple[FlatGraph, Includes, frozenset[str]]:
    """Keep float, or move, what would lose channels to a common scale, with a warning for each tensor.

    Args:
        lowered: The graph; its layers are used in the result.
        precisions: How kernels and activations are quantized.
        includes: Which layers are quantized.
        data: For calibration; `None`: what the statistics of normalizations at the inputs say is all that is known.
        batch_size: Samples in a batch, where `data` holds arrays.
        integers_only: Whether nothing may be kept float: a warning says what loses channels then.

    Returns:
        The graph, which of its layers are quantized, and behind which calls that only move values, by the names of
        their operations, quantizers stand by themselves.
    """
    left: set[str] = set()
    apart: set[str] = set()

    def still(layer: Any) -> bool:
        return layer.name not in left and includes(layer)

    for _ in range(ROUNDS):
        detector = _Detector(lowered, precisions, still, apart)
        changes = detector.find(data, batch_size, integers_only)
        if not changes.kept and not changes.moved and changes.apart <= apart:
            for note in [*changes.notes, *(changes.remarks if integers_only else ())]:
                warnings.warn(note, stacklevel=5)
            break
        apart |= changes.apart
        left.update(call.operation.name for call in changes.kept if detector.placement.rules[call].kind == KERNEL)
        kernels = {call.operation.name for call in detector.graph if detector.kind(call) == KERNEL}
        if kernels and kernels <= left:
            raise ValueError(
                "Expected a model of which something is left to quantize. Received: "
                f"{lowered.name!r}, whose layers with kernels, {', '.join(map(repr, sorted(kernels)))}, would all "
                f"stay float. {changes.remarks[-1]} Scale inputs and outputs outside of the model, or take "
                "config='int8_weights'."
            )
        for remark in () if integers_only else changes.remarks:
            warnings.warn(remark, stacklevel=5)
        lowered = apply_changes(changes, lowered, detector.placement)
    return lowered, still, frozenset(apart)


def lost_on(
    lowered: FlatGraph, precisions: LayerPrecisions, includes: Includes, data: Any, batch_size: int
) -> list[str]:
    """Return what `resolve_imbalance` would find, a sentence for each tensor, and change nothing."""
    return _Detector(lowered, precisions, includes).find(data, batch_size).found


class _Detector(PlacedGraph):
    def find(self, data: Any, batch_size: int, integers_only: bool = False) -> GraphChanges:
        changes = GraphChanges(integers_only=integers_only)
        first_calls = [call for call in self.graph if self.is_first_call(call)]
        concatenations = [call for call in self.graph if self.kind(call) == CONCATENATE]
        sums = [call for call in self.graph if may_mask(call, self.kind) and self.way(call) is not None]
        if data is None:
            for call in sums:
                if any(map(self.scaling, call.inputs)):
                    self.keep_mask(call, changes)
            for call in first_calls:
                spread = self.expected(call)
                if spread is not None:
                    self.look_at_first_call(call, spread, changes)
            return changes
        divided = self.divided()
        if not self.static:  # only what kernels read is rounded, and nothing with a range of before
            first_calls = [one for one in first_calls if self.kind(one) == KERNEL]
            concatenations, divided, sums = [], [], []
        groups = [[call.inputs[0]] for call in first_calls] + [list(call.inputs) for call in concatenations]
        groups += [[x] for x in divided] + [[x] for call in sums for x in call.inputs]
        specs = [*map(self.spec, first_calls), *map(self.spec, concatenations), *map(self.spec_at, divided)]
        specs += [self.spec(call) for call in sums for _ in call.inputs]
        spreads = measure(self.lowered, groups, specs, data, batch_size)
        for call, spread in zip(first_calls, spreads, strict=False):
            self.look_at_first_call(call, spread, changes)
        for call, spread in zip(concatenations, spreads[len(first_calls) :], strict=False):
            self.look_at_concatenation(call, spread, changes)
        for x, spread in zip(divided, spreads[len(first_calls) + len(concatenations) :], strict=False):
            self.look_at_divided(x, spread, changes)
        spans = iter(float(each.high.max() - each.low.min()) for each in spreads[len(spreads) - 2 * len(sums) :])
        for call in sums:
            if is_mask((next(spans), next(spans))):
                self.keep_mask(call, changes)
        return changes

    # Masks that are added to the scores of a softmax.

    def way(self, call: Call) -> list[Call] | None:
        """Return the maps between a sum and the softmax that it is for."""
        return way_to_softmax(call.outputs[0], self.graph, self.kind)

    def scaling(self, x: Any) -> list[Call]:
        """Return the maps that make a mask of zeros and ones a large one."""
        return scaling(x, self.graph, self.kind, self.placement.folded)

    def keep_mask(self, call: Call, changes: GraphChanges) -> None:
        floats = [*(one for x in call.inputs for one in self.scaling(x)), call, *(self.way(call) or ())]
        changes.keep(floats, f"'{call.operation.name}' adds a mask to scores")
        about = f"{call.operation.name!r} adds to scores a mask that is much larger: one scale rounds them all alike."
        changes.say(about, f"{joined_names(floats)} stays float, and what is masked widens no range.")

    # Maps and kernels that read an input of the model.

    def is_first_call(self, call: Call) -> bool:
        """Return whether a call reads an input of the model, or what is made of it in float without weights."""
        if self.kind(call) not in (AFFINE, KERNEL) or call in self.placement.folded or not has_channels(call.inputs[0]):
            return False
        return self.from_input(call.inputs[0])

    def expected(self, call: Call) -> Spread | None:
        """Return what a normalization at an input says of its channels: three deviations on both sides of the mean."""
        if name_of(call.operation) not in ("normalization", "batchnormalization"):
            return None
        found = scale_and_offset(call)
        if found is None:
            return None
        scale, offset = (np.asarray(gathered(part), np.float64) for part in found)
        inner = innermost(call.operation)
        if name_of(inner) == "batchnormalization":
            mean, deviation = (gathered(v.value) for v in (inner.moving_mean, inner.moving_variance))
            mean, deviation = np.float64(mean), np.sqrt(np.float64(deviation))
        else:
            mean, deviation = -offset / scale, 1 / scale
        channels = call.inputs[0].shape[-1]
        mean, deviation = (np.broadcast_to(part, (channels,)) for part in (mean, deviation))
        return Spread.of_uniform(mean - 3 * deviation, mean + 3 * deviation, deviation, self.spec(call))

    def look_at_first_call(self, call: Call, spread: Spread, changes: GraphChanges) -> None:
        channels = call.inputs[0].shape[-1]
        if self.kind(call) == AFFINE:
            scale = self.scale(call, channels)
            lost = np.zeros(channels, bool) if scale is None else lost_behind(spread, scale)
        else:
            lost = lost_in_sum(spread, gains_of(call, channels)) & (self.configs[call].activations is not None)
        name = tensor_name(call.inputs[0])
        chain = self.chain(call)
        rows = (
            lost_in_rows(call, spread, self.configs[call].weights)
            if self.kind(call) == KERNEL and not lost.any()
            else lost
        )
        if not lost.any() and rows.any():
            changes.keep(chain, reason(name))
            changes.say(said_of_rows(name, call.operation.name, rows), f"{joined_names(chain)} stays float.")
        if not lost.any():
            return
        changes.keep(chain, reason(name))
        changes.say(said(name, spread, lost), f"{joined_names(chain)} stays float, and what it makes is quantized.")

    # Concatenations.

    def look_at_concatenation(self, call: Call, spread: Spread, changes: GraphChanges) -> None:
        sizes = [x.shape[-1] if has_channels(x) else 1 for x in call.inputs]
        ends = np.cumsum([0, *sizes])
        parts = [slice(start, end) for start, end in itertools.pairwise(ends)]
        lost = np.zeros(ends[-1], bool)
        for part in parts:
            lost[part] = is_lost(part, spread)
        if not lost.any():
            return
        is_output, readers = self.ends_of(call.outputs[0])
        cuts = [one for one in readers if self.kind(one) == RELU and has_layer(one)]
        for cut in cuts:  # what a ReLU lets through is read in its place
            output, behind = self.ends_of(cut.outputs[0])
            is_output, readers = is_output or output, readers + behind
        joined = joins_channels(call)
        affected = [one for one in readers if self.affects(one, spread, lost, joined)]
        floating = any(self.kind(one) == FLOAT for one in readers)
        if not is_output and not affected and not floating:
            return
        name = call.operation.name
        about = said(name, spread, lost)
        only = self.graph.readers(call.outputs[0])
        if not is_output and joined and len(only) == 1 and only == affected and self.movable(call, only[0]):
            changes.moved[only[0]] = call
            changes.say(about, f"{only[0].operation.name!r} goes onto its branches, each quantized by itself.", False)
            return
        floats = [call, *cuts, *affected]
        changes.keep((each for one in floats for each in self.chain(one)), reason(name))
        changes.say(about, f"{joined_names(floats)} stays float.")

    def movable(self, concatenation: Call, call: Call) -> bool:
        """Return whether an affine map can go onto the branches of a concatenation, and is not better left whole."""
        alone = self.graph.times(call.operation) == 1
        # In front of a model one map in float costs less than many.
        whole = all(map(self.from_input, concatenation.inputs))
        return self.kind(call) == AFFINE and alone and not whole and sliced(call, 0, 1) is not None

    def affects(self, call: Call, spread: Spread, lost: np.ndarray, joined: bool) -> bool:
        """Return whether a call makes something of channels that are lost."""
        channels = len(lost)
        if not joined:  # each of them is at positions of its own
            return self.kind(call) in (AFFINE, KERNEL)
        if self.kind(call) == AFFINE:
            width = call.inputs[0].shape[-1]
            scale = self.scale(call, width)
            if scale is None or width != channels:
                return False
            return bool((lost & lost_behind(spread, scale)).any())
        if self.kind(call) == KERNEL:
            return bool((lost & lost_in_sum(spread, gains_of(call, channels))).any())
        return False

    # Tensors of which parts are taken, and outputs.

    def divided(self) -> list[Any]:
        """Return the quantized tensors of whose channels parts are taken, or which are made here and are outputs."""
        found = [*self.lowered.inputs, *(x for call in self.graph for x in call.outputs)]
        found = [x for x in found if self.placement.tensors.get(id(x), 0) is None and has_channels(x)]
        return [x for x in found if self.is_end(x) or any(parts_of(one) for one in self.graph.readers(x))]

    def look_at_divided(self, x: Any, spread: Spread, changes: GraphChanges) -> None:
        readers = self.graph.readers(x)
        parts = [part for one in readers for part in parts_of(one)]
        lost = np.zeros(len(spread.low), bool)
        for part in parts:
            lost[part] = is_lost(part, spread)
        apart = lost.any()
        kept = self.made_with(x)
        if self.is_end(x):
            ends = lost_at_end(spread)
            if 0 < np.sum(ends) < len(ends) / FEW:  # of many outputs a few that hardly vary are no other quantity
                changes.notes.append(
                    f"{said(tensor_name(x), spread, ends)} It is quantized all the same, since all others do well; "
                    f"if these count, keep {joined_names(kept)} float with layers=."
                )
            else:
                lost |= ends
        if not lost.any() or not all(self.can_stay_float(one) for one in kept):
            return
        if apart:
            changes.apart.update(one.operation.name for one in readers if parts_of(one))
        name = tensor_name(x)
        changes.keep(kept, reason(name))
        done = [f"{joined_names(kept)} stays float"] if kept else []
        done += ["each part that is taken of it is quantized by itself"] if apart else []
        words = ", and ".join(done)
        changes.say(said(name, spread, lost), f"{words[:1].upper()}{words[1:]}.", bool(kept) and not apart)
