"""The quantizer of an activation whose range the optimizer trains: by its scale, scale and offset, or clip."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.replicas import mean_over_replicas, range_over_replicas
from tfcompress.core.transform import put, read
from tfcompress.quantization.graph.activation_quantizer import FIXED, LEAST, SETTLED, ActivationQuantizer
from tfcompress.quantization.numerics.fake_quant import fake_quant
from tfcompress.quantization.numerics.finite import checked_range
from tfcompress.quantization.numerics.learned_scale import of_share, with_gradient_times

Tensor = Any


@keras.saving.register_keras_serializable(package="tfcompress")
class LearnedQuantizer(ActivationQuantizer):
    """Puts a tensor on a uniform grid whose range is trained beside the weights.

    It begins where calibration lets it or, without that, in the first training step. Trained are shares of where it
    began, as with `quantization.weights.learned_step`. By `spec.range`:

    - "learned": the scale is trained, zero is the lowest integer behind a ReLU and the middle elsewhere. LSQ, "Learned
      step size quantization" (Esser et al. 2020, arXiv:1902.08153): the gradient is multiplied by 1 / sqrt(n * largest
      integer), n the values of one sample.
    - "learned_offset": beside the scale the lower end is trained, where no ReLU is in front and `spec.symmetric` isn't
      set. LSQ+ (Bhalgat et al. 2020, arXiv:2004.09576). Zero stays on the grid, as integer kernels want it.
    - "pact": the upper end is trained by what lies beyond it, and its square counts for `spec.clip_decay` in the loss.
      PACT, "Parameterized clipping activation" (Choi et al. 2018, arXiv:1805.06085); where no ReLU is in front, both
      ends.

    Args:
        spec: Bits, symmetry and kind of range.
        **kwargs: As of an `ActivationQuantizer`; from `freeze_step` on the range stays.
    """

    @property
    def lowest(self) -> int:
        """The least integer, where zero is one without an offset."""
        if self.from_zero or self.offset:
            return 0
        return -self.highest - (0 if self.spec.symmetric else 1)

    @property
    def highest(self) -> int:
        """The largest integer."""
        return int(2 ** (self.spec.bits - (0 if self.from_zero or self.offset else 1)) - 1)

    @property
    def offset(self) -> bool:
        """Whether the lower end is trained, too."""
        return self.spec.range == "learned_offset" and not self.nonnegative and not self.spec.symmetric

    def build(self, input_shape: Any = None) -> None:
        """Create the state: where training begins and the shares of it that are trained; updates and steps."""
        named = {"pact": "clip", "learned": "scale", "learned_offset": "scale_and_offset"}[self.spec.range]
        shape = (2 if self.offset else 1,)
        self.trained = self.add_weight(name=named, shape=shape, initializer="zeros", autocast=False)
        self.start = self._beside("start", (2,))
        self.counts = self._add("counts", "int32")
        if self.freeze_step is not None:
            self.kept = self._beside("kept", shape)
        self.built = True

    def _beside(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        how: dict[str, Any] = {"trainable": False, "autocast": False, "aggregation": "only_first_replica"}
        return self.add_weight(name=name, shape=shape, initializer="zeros", **how)

    def found(self) -> tuple[float, float]:
        """Return the range that is trained, as numbers."""
        frozen = self.freeze_step is not None and int(read(self.counts)[1]) > self.freeze_step
        low, high = self.ends_of(np, read(self.start), read(self.kept if frozen else self.trained))
        return float(low), float(high)

    def now(self) -> tuple[Tensor, Tensor]:
        """Return the range that is trained, as tensors."""
        ends: tuple[Tensor, Tensor] = self.ends_of(ops, ops.convert_to_tensor(self.start.value), self._shares())
        return ends

    def _shares(self) -> Tensor:
        """Return what is trained, or what it was when it was frozen."""
        shares = ops.convert_to_tensor(self.trained.value)
        if self.freeze_step is None:
            return shares
        step = ops.convert_to_tensor(self.counts.value)[1]
        return ops.where(step > self.freeze_step, ops.convert_to_tensor(self.kept.value), shares)

    def ends_of(self, xp: Any, start: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Return the range that trained shares of a start stand for, with numpy or keras.ops.

        Args:
            xp: numpy or keras.ops.
            start: The clip or scale, and the lower end.
            shares: By how much the clip or scale is larger; the lower end, by how much of the range's width higher.
        """
        size = xp.maximum(start[0] * (shares[0] + np.float32(1)), self._least)
        if self.spec.range == "pact":
            return size * np.float32(self.lowest / self.highest), size
        if self.offset:
            low = xp.minimum(start[1] + start[0] * np.float32(self.highest) * shares[1], np.float32(0))
            return low, xp.maximum(low + size * np.float32(self.highest), np.float32(0))
        return size * np.float32(self.lowest), size * np.float32(self.highest)

    @property
    def _least(self) -> np.float32:
        """The least clip or scale whose range a file can hold."""
        return np.float32(LEAST if self.spec.range == "pact" else LEAST / (self.highest - self.lowest))

    def set_range(self, minimum: float, maximum: float, settled: bool = False) -> None:
        """Let training begin with the least range that holds another and that the kind of range can be."""
        low, high = map(float, checked_range(minimum, maximum))
        put(self.start, np.array(self._begin(np, np.float32(low), np.float32(high)), np.float32))
        for variable in (self.trained, *([] if self.freeze_step is None else [self.kept])):
            variable.assign(ops.zeros(variable.shape))
        self.counts.assign([FIXED if settled else SETTLED, int(read(self.counts)[1])])

    def _begin(self, xp: Any, low: Tensor, high: Tensor) -> list[Tensor]:
        """Return the start of training for the least range that holds another: clip or scale, and lower end."""
        if self.offset:
            return [xp.maximum((high - low) / np.float32(self.highest), self._least), low]
        scale = high / np.float32(self.highest)
        if self.lowest:
            scale = xp.maximum(scale, low / np.float32(self.lowest))
        size = scale * np.float32(self.highest) if self.spec.range == "pact" else scale
        return [xp.maximum(size, self._least), 0.0 * low]

    def _seen(self, x: Tensor, known: Tensor) -> list[Tensor]:
        """Return where training begins by a batch, as calibration has it by all data; where it is known, nothing."""

        def looked() -> Tensor:
            values = self.meant(ops.stop_gradient(x))
            return ops.stack([ops.min(values), ops.max(values), ops.mean(ops.abs(values))])

        low, high, mean = ops.unstack(ops.cond(known, lambda: ops.zeros((3,)), looked), 3)
        low, high = range_over_replicas(ops.minimum(low, 0.0), ops.maximum(high, 0.0))
        if self.spec.range == "learned":
            limit = 2.0 * mean_over_replicas(mean, ops.shape(x)[0]) * float(self.highest) ** 0.5
            low, high = ops.maximum(low, -limit), ops.minimum(high, limit)
        return self._begin(ops, low, high)

    def in_training(self, x: Tensor) -> Tensor:
        """Return a batch on the grid, with gradients to what is trained; count a training step."""
        counts, start = (ops.convert_to_tensor(variable.value) for variable in (self.counts, self.start))
        known = counts[0] > 0
        start = ops.where(known, start, ops.stack(self._seen(x, known)))
        self.start.assign(start)
        shares = self._shares()
        if self.freeze_step is not None:
            shares = ops.where(counts[1] >= self.freeze_step, ops.stop_gradient(shares), shares)
            self.kept.assign(ops.stop_gradient(shares))
        self.counts.assign(ops.stack([ops.maximum(counts[0], 1), counts[1] + 1]))
        clip = self.spec.range == "pact"
        factor = of_share(1.0 if clip else self._factor(x), start[0])
        if self.offset:  # the lower end moves by shares of the width
            factor = factor * np.array([1, 1 / self.highest**2], np.float32)
        low, high = self.ends_of(ops, start, with_gradient_times(shares, factor, self._floor(start[0])))
        if clip and self.spec.clip_decay:
            self.add_loss(self.spec.clip_decay * ops.square(high))
        return fake_quant(x, low, high, bits=self.spec.bits, narrow=self.spec.symmetric, rounding=not clip)

    def _floor(self, start: Tensor) -> Tensor:
        """Return the least shares that count, to which the gradient of smaller ones goes."""
        return ops.stack([self._least / start - 1.0, *([-np.inf] if self.offset else [])])

    def _factor(self, x: Tensor) -> Tensor:
        """Return what LSQ multiplies the gradient of the scale by."""
        known = math.prod(size for size in x.shape[1:] if size is not None)
        sizes = ops.shape(x)
        free = [sizes[axis] for axis, size in enumerate(x.shape) if size is None and axis]
        values = ops.cast(ops.prod(ops.stack(free)) if free else 1, "float32")
        return 1.0 / ops.sqrt(values * float(known * self.highest))
