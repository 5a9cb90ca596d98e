"""Tensors whose channels differ too much in size for the one scale that an integer tensor has.

Looked at are the places where values of different kinds meet: the model's inputs, and concatenations. Channels of one
kernel's output also differ, by a factor of 10 to 50 as a rule; they were made, and are read, together, and 8 bits do
well there, so they are left alone. A channel counts as lost where rounding to the common grid changes it by more than
a sixteenth of its standard deviation, measured on the data (so a constant channel is none, and neither are whole
numbers that the grid holds exactly), and where what reads it makes something of it.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfcompress.meshes import gathered
from tfcompress.passthrough import innermost
from tfcompress.quantization.accumulating import scale_and_offset
from tfcompress.quantization.channels import channels_of
from tfcompress.quantization.config import ActivationSpec
from tfcompress.quantization.folding import seen
from tfcompress.quantization.kept import KeptFloat
from tfcompress.quantization.names import name_of
from tfcompress.quantization.placement import Placement, place
from tfcompress.quantization.plans import Plan, carry_out
from tfcompress.quantization.rules import AFFINE, CONCATENATE, FLOAT, KERNEL, RELU, TRANSPARENT
from tfcompress.quantization.slicing import sliced
from tfcompress.quantization.spread import FEW, Spread, measure
from tfcompress.surgery.walking import Call, calls

Includes = Callable[[Any], bool]
ROUNDS = 8
"""What is mended is looked at again so often: moving a map onto branches may bring it in front of an input."""


def mend(
    model: keras.Model, spec: ActivationSpec, includes: Includes, data: Any, batch_size: int
) -> tuple[keras.Model, Includes]:
    """Keep float, or move, what would lose channels to a common scale, with a warning for each tensor.

    Args:
        model: A lowered graph; its layers are used in the result.
        spec: How activations are quantized.
        includes: Which layers are quantized.
        data: For calibration; `None`: what the statistics of normalizations at the inputs say is all that is known.
        batch_size: Samples in a batch, where `data` holds arrays.

    Returns:
        The model, and which of its layers are quantized.
    """
    left: set[str] = set()

    def still(layer: Any) -> bool:
        return layer.name not in left and includes(layer)

    for _ in range(ROUNDS):
        mender = _Mender(model, spec, still)
        plan = mender.plan(data, batch_size)
        if not plan.kept and not plan.moved:
            break
        for remark in plan.remarks:
            warnings.warn(remark, stacklevel=5)
        left.update(call.operation.name for call in plan.kept if mender.placement.rules[call].kind == KERNEL)
        model = carry_out(plan, model, mender.placement)
    return model, still


class _Mender:
    def __init__(self, model: keras.Model, spec: ActivationSpec, includes: Includes):
        self.model, self.spec = model, spec
        self.graph = calls(model)
        self.placement: Placement = place(self.graph, model.outputs, spec, includes)
        self.producer = {id(x): call for call in self.graph for x in call.outputs}
        self.readers: dict[int, list[Call]] = {}
        for call in self.graph:
            for x in call.inputs:
                self.readers.setdefault(id(x), []).append(call)
        self.outputs = {id(x) for x in model.outputs}

    def kind(self, call: Call) -> str:
        return self.placement.rules[call].kind

    def plan(self, data: Any, batch_size: int) -> Plan:
        plan = Plan()
        fronts = [call for call in self.graph if self.is_front(call)]
        joints = [call for call in self.graph if self.kind(call) == CONCATENATE]
        if data is None:
            for call in fronts:
                spread = self.expected(call)
                if spread is not None:
                    self.look_at_front(call, spread, plan)
            return plan
        groups = [[call.inputs[0]] for call in fronts] + [list(call.inputs) for call in joints]
        spreads = measure(self.model, groups, self.spec, data, batch_size)
        for call, spread in zip(fronts, spreads, strict=False):
            self.look_at_front(call, spread, plan)
        for call, spread in zip(joints, spreads[len(fronts) :], strict=True):
            self.look_at_joint(call, spread, plan)
        return plan

    # Maps and kernels that read an input of the model.

    def is_front(self, call: Call) -> bool:
        """Return whether a call reads an input of the model, or what is only moved from there or kept float."""
        if (
            self.kind(call) not in (AFFINE, KERNEL)
            or call in self.placement.folded
            or not _has_channels(call.inputs[0])
        ):
            return False
        return self.from_input(call.inputs[0])

    def from_input(self, x: Any) -> bool:
        before = self.producer.get(id(x))
        if before is None:
            return True
        on = [y for y in before.inputs if keras.backend.is_float_dtype(y.dtype)]
        moved = self.kind(before) == TRANSPARENT or (
            isinstance(before.operation, KeptFloat) and self.kind(before) == FLOAT
        )
        return moved and all(map(self.from_input, on))

    def chain(self, call: Call) -> list[Call]:
        """Return an affine map or kernel and what is computed together with it: maps folded into it, a ReLU."""
        found = [call]
        while True:
            readers = self.readers.get(id(found[-1].outputs[0]), [])
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
        return Spread.of_uniform(mean - 3 * deviation, mean + 3 * deviation, deviation, self.spec)

    def look_at_front(self, call: Call, spread: Spread, plan: Plan) -> None:
        channels = call.inputs[0].shape[-1]
        if self.kind(call) == AFFINE:
            scale = self.scale(call, channels)
            lost = np.zeros(channels, bool) if scale is None else _lost(spread, scale)
        else:
            lost = _lost_in_sum(spread, _gains(call, channels))
        if not lost.any():
            return
        name = _name_of(call.inputs[0])
        chain = self.chain(call)
        plan.kept.update((one, _reason(name)) for one in chain)
        plan.remarks.append(f"{_said(name, spread, lost)} {_and(chain)} stays float, and what it makes is quantized.")

    # Concatenations.

    def look_at_joint(self, call: Call, spread: Spread, plan: Plan) -> None:
        sizes = [x.shape[-1] if _has_channels(x) else 1 for x in call.inputs]
        ends = np.cumsum([0, *sizes])
        parts = [slice(start, end) for start, end in itertools.pairwise(ends)]
        lost = np.zeros(ends[-1], bool)
        for part in parts:
            wide = (spread.high[part].max() - spread.low[part].min()) / spread.step
            deviation, error = (np.sqrt(np.mean(np.square(x[part]))) for x in (spread.deviation, spread.error))
            lost[part] = 0 < wide < spread.few and error * FEW > deviation > 0
        if not lost.any():
            return
        is_output, readers = self.ends_of(call.outputs[0])
        joined = _joins_channels(call)
        hurt = [one for one in readers if self.hurts(one, spread, lost, joined)]
        floating = any(self.kind(one) == FLOAT for one in readers)
        if not is_output and not hurt and not floating:
            return
        name = call.operation.name
        said = _said(name, spread, lost)
        only = self.readers.get(id(call.outputs[0]), [])
        if not is_output and joined and len(only) == 1 and only == hurt and self.movable(call, only[0]):
            plan.moved[only[0]] = call
            plan.remarks.append(f"{said} {only[0].operation.name!r} goes onto its branches, each quantized by itself.")
            return
        plan.kept.update((each, _reason(name)) for one in [call, *hurt] for each in self.chain(one))
        plan.remarks.append(f"{said} {_and([call, *hurt])} stays float.")

    def movable(self, joint: Call, call: Call) -> bool:
        """Return whether an affine map can go onto the branches of a concatenation, and is not better left whole."""
        alone = sum(other.operation is call.operation for other in self.graph) == 1
        whole = all(map(self.from_input, joint.inputs))  # in front of a model one map in float costs less than many
        return self.kind(call) == AFFINE and alone and not whole and sliced(call, 0, 1) is not None

    def ends_of(self, x: Any) -> tuple[bool, list[Call]]:
        """Return whether a tensor, or what is moved from it, is an output of the model, and which calls read it."""
        is_output, found = id(x) in self.outputs, []
        for reader in self.readers.get(id(x), []):
            if self.kind(reader) != TRANSPARENT:
                found.append(reader)
                continue
            for y in reader.outputs:
                output, more = self.ends_of(y)
                is_output, found = is_output or output, found + more
        return is_output, list(dict.fromkeys(found))

    def hurts(self, call: Call, spread: Spread, lost: np.ndarray, joined: bool) -> bool:
        """Return whether a call makes something of channels that are lost."""
        channels = len(lost)
        if self.kind(call) == AFFINE:
            width = call.inputs[0].shape[-1]
            scale = self.scale(call, width)
            if scale is None or not joined or width != channels:
                return False
            return bool((lost & _lost(spread, scale)).any())
        if self.kind(call) == KERNEL and joined:
            return bool((lost & _lost_in_sum(spread, _gains(call, channels))).any())
        return False


def _has_channels(x: Any) -> bool:
    return len(x.shape) > 1 and x.shape[-1] is not None


def _joins_channels(call: Call) -> bool:
    axis = getattr(innermost(call.operation), "axis", -1)
    return axis in (-1, len(call.inputs[0].shape) - 1) and all(map(_has_channels, call.inputs))


def _rounded_away(spread: Spread) -> np.ndarray:
    return (spread.steps < spread.few) & (spread.error * FEW > spread.deviation)


def _lost(spread: Spread, gains: np.ndarray) -> np.ndarray:
    """Return which channels are lost, and are no less than a sixteenth of the largest, each times its gain."""
    size = gains * spread.deviation
    return (
        (spread.steps < spread.few) & (spread.error * FEW > spread.deviation) & (size > 0) & (size * FEW >= size.max())
    )


def _lost_in_sum(spread: Spread, gains: np.ndarray) -> np.ndarray:
    """Return which channels are lost, where all, each times its gain, are summed up; none if little of it shows."""
    lost = _rounded_away(spread) & (spread.deviation > 0)
    noise = np.sqrt(np.sum(np.square(gains * spread.error)[lost]))
    return lost & bool(noise * FEW > np.sqrt(np.sum(np.square(gains * spread.deviation))))


def _gains(call: Call, channels: int) -> np.ndarray:
    """Return by what a kernel multiplies each channel of what it reads, as a root of the sum of squares."""
    known = channels_of(call.operation)
    if known is None or known.inputs is None or known.input_count % channels:
        return np.ones(channels)
    squares = np.square(seen(call.operation, known.inputs).astype(np.float64))
    index = np.broadcast_to(known.input_index, squares.shape) % channels  # the last axis is the fastest when flattened
    return np.sqrt(np.bincount(index.reshape(-1), squares.reshape(-1), minlength=channels))


def _name_of(x: Any) -> str:
    return str(x._keras_history.operation.name)


def _reason(name: str) -> str:
    return f"channels of {name!r} differ too much for one scale"


def _and(found: list[Call]) -> str:
    return " with ".join(repr(call.operation.name) for call in found)


def _said(name: str, spread: Spread, lost: np.ndarray) -> str:
    places = np.flatnonzero(lost)
    steps = spread.steps[places]
    which = ", ".join(map(str, places[:4])) + (" ..." if len(places) > 4 else "")
    return (
        f"Channels of {name!r} differ too much in size for one scale: channel{'s' if len(places) > 1 else ''} {which} "
        f"of {len(lost)} would hold {steps.min():.2g} to {steps.max():.2g} of its steps."
    )
