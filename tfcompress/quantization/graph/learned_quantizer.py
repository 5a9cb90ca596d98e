"""The quantizer of an activation whose range the optimizer trains: by its scale, scale and offset, or clip."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.transform import put, read
from tfcompress.quantization.graph.activation_quantizer import FIXED, LEAST, SETTLED, ActivationQuantizer
from tfcompress.quantization.numerics.fake_quant import fake_quant
from tfcompress.quantization.numerics.finite import checked_range
from tfcompress.quantization.numerics.learned_scale import of_share, with_gradient_times

Tensor = Any


@keras.saving.register_keras_serializable(package="tfcompress")
class LearnedQuantizer(ActivationQuantizer):
    """Puts a tensor on a uniform grid whose range is trained beside the weights.

    It begins where calibration lets it, and without that passes the tensor unchanged. Trained are shares of where it
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
        self.trained = self.add_weight(name=named, shape=shape, initializer="ones", autocast=False)
        self.start = self._beside("start", shape)
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
        low, high = self.ends_of(np, read(self.start) * read(self.kept if frozen else self.trained))
        return float(low), float(high)

    def now(self) -> tuple[Tensor, Tensor]:
        """Return the range that is trained, as tensors."""
        ends: tuple[Tensor, Tensor] = self.ends_of(ops, ops.convert_to_tensor(self.start.value) * self._shares())
        return ends

    def _shares(self) -> Tensor:
        """Return what is trained, or what it was when it was frozen."""
        shares = ops.convert_to_tensor(self.trained.value)
        if self.freeze_step is None:
            return shares
        step = ops.convert_to_tensor(self.counts.value)[1]
        return ops.where(step > self.freeze_step, ops.convert_to_tensor(self.kept.value), shares)

    def ends_of(self, xp: Any, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the range of a clip, a scale or a scale and a lower end, with numpy or keras.ops."""
        size = xp.maximum(values[0], self._least)
        if self.spec.range == "pact":
            return size * np.float32(self.lowest / self.highest), size
        if self.offset:
            low = xp.minimum(values[1], np.float32(0))
            return low, xp.maximum(low + size * np.float32(self.highest), np.float32(0))
        return size * np.float32(self.lowest), size * np.float32(self.highest)

    @property
    def _least(self) -> np.float32:
        """The least clip or scale whose range a file can hold."""
        return np.float32(LEAST if self.spec.range == "pact" else LEAST / (self.highest - self.lowest))

    def set_range(self, minimum: float, maximum: float, settled: bool = False) -> None:
        """Let training begin with the least range that holds another and that the kind of range can be."""
        low, high = map(float, checked_range(minimum, maximum))
        if self.offset:
            start, shares = [(high - low) / self.highest, high - low], [1.0, low / (high - low)]
        else:
            scale = max(high / self.highest, low / self.lowest if self.lowest else 0.0)
            start, shares = [scale * self.highest if self.spec.range == "pact" else scale], [1.0]
        put(self.start, np.array(start, np.float32))
        for variable in (self.trained, *([] if self.freeze_step is None else [self.kept])):
            put(variable, np.array(shares, np.float32))
        self.counts.assign([FIXED if settled else SETTLED, int(read(self.counts)[1])])

    def in_training(self, x: Tensor) -> Tensor:
        """Return a batch on the grid, with gradients to what is trained; count a training step."""
        counts, start = (ops.convert_to_tensor(variable.value) for variable in (self.counts, self.start))
        shares = self._shares()
        if self.freeze_step is not None:
            shares = ops.where(counts[1] >= self.freeze_step, ops.stop_gradient(shares), shares)
            self.kept.assign(ops.stop_gradient(shares))
        self.counts.assign(ops.stack([counts[0], counts[1] + 1]))
        clip = self.spec.range == "pact"
        factor = 1.0 if clip else self._factor(x)
        values = start * with_gradient_times(shares, of_share(factor, start))
        if clip and self.spec.clip_decay:
            self.add_loss(self.spec.clip_decay * ops.sum(ops.square(values)))
        values = with_gradient_times(values, 1.0, [self._least, *([-np.inf] if self.offset else [])])
        how: dict[str, Any] = {"bits": self.spec.bits, "narrow": self.spec.symmetric}
        y = fake_quant(x, *self.ends_of(ops, values), rounding=not clip, **how)
        return ops.where(counts[0] > 0, y, x)

    def _factor(self, x: Tensor) -> Tensor:
        """Return what LSQ multiplies the gradient of the scale by."""
        known = math.prod(size for size in x.shape[1:] if size is not None)
        sizes = ops.shape(x)
        free = [sizes[axis] for axis, size in enumerate(x.shape) if size is None and axis]
        values = ops.cast(ops.prod(ops.stack(free)) if free else 1, "float32")
        return 1.0 / ops.sqrt(values * float(known * self.highest))
