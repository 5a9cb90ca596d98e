"""The quantizer of an activation: its range is calibrated, learned or fixed, and kept in variables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.passthrough import Inserted
from tfcompress.core.replicas import range_over_replicas
from tfcompress.core.transform import put, read
from tfcompress.quantization.numerics.fake_quant import fake_quant_given
from tfcompress.quantization.numerics.finite import checked_range
from tfcompress.quantization.numerics.grid import Grid
from tfcompress.quantization.numerics.nudging import nudged_grid
from tfcompress.quantization.quantize_config import ActivationSpec
from tfcompress.quantization.ranges.masked_scores import unmasked
from tfcompress.quantization.weights.uniform import weight_quantizers

Tensor = Any

SETTLED = 1 << 20
"""Updates that a calibrated range counts as: the moving average goes on from it, not anew."""

FIXED = SETTLED + 1
"""What the range of discrete values, such as pixels, counts as: it stays as long as training's batches lie in it."""

LEAST = 1.01e-6
"""What a range spans at least: TFLite's converter puts another in the place of one of 1e-6 or less."""

UP = 2.0**-10
"""In units of the scale: what is added to means of whole numbers, so that halves go up, as in TFLite's kernels."""


@keras.saving.register_keras_serializable(package="tfcompress")
class ActivationQuantizer(Inserted):
    """Puts a tensor on a uniform grid whose range is calibrated, learned as a moving average, or fixed.

    As long as the range is neither, the tensor passes unchanged. In training the range follows the moving
    average of each batch's extremes, free of the bias of its first steps (as in Adam, Kingma and Ba 2015);
    extremes that aren't finite are left out. A range always includes 0. On several devices it follows the whole
    batch, and is the same on all.

    Args:
        spec: Bits, symmetry and momentum.
        fixed: A range (minimum, maximum) that never changes, as softmax's (0, 255/256).
        freeze_step: The training step from which the range stays; `None`: never.
        source: Name of the layer whose output this is, for messages.
        margin: Share by which a range around zero that is learned without calibration is wider than the extremes.
        nonnegative: Whether no value is below 0, as behind a ReLU: nothing looks for a minimum then.
        scores: Whether a softmax alone reads the tensor: what a mask puts far below widens no range.
        seen: What calibration has seen of the model's inputs, by name: the least and the largest value of each channel,
            and whether it holds whole numbers alone; samples to try the model on are made of it.

    Example:

    >>> import numpy as np
    >>> quantizer = ActivationQuantizer(ActivationSpec(bits=2), fixed=(0.0, 3.0))
    >>> np.asarray(quantizer(np.array([[-1.0, 0.4, 1.6, 9.0]]))).tolist()
    [[0.0, 0.0, 2.0, 3.0]]
    """

    seen: dict[str, Any] | None

    def __init__(
        self,
        spec: ActivationSpec,
        *,
        fixed: Sequence[float] | None = None,
        freeze_step: int | None = None,
        source: str = "",
        margin: float = 0.0,
        nonnegative: bool = False,
        scores: bool = False,
        seen: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        self.spec = spec
        self.fixed = None if fixed is None else (float(fixed[0]), float(fixed[1]))
        self.freeze_step = freeze_step
        self.source = source
        self.margin = float(margin)
        self.nonnegative = bool(nonnegative)
        self.scores = bool(scores)
        self.see(seen)
        self.supports_masking = True

    @property
    def learns(self) -> bool:
        """Whether the range is found from data, by calibration or in training."""
        return self.fixed is None and not self.spec.dynamic

    @property
    def from_zero(self) -> bool:
        """Whether the range starts at 0 in training, whatever is observed."""
        return self.nonnegative and not self.spec.symmetric

    @property
    def calibrated(self) -> bool:
        """Whether there is a range."""
        return not self.learns or int(read(self.counts)[0]) > 0

    @property
    def range(self) -> tuple[float, float]:
        """The range (minimum, maximum), as calibrated, learned or fixed.

        Raises:
            ValueError: If there is none.
        """
        if self.fixed is not None:
            return self.fixed
        if self.spec.dynamic or not self.calibrated:
            raise ValueError(
                f"Expected a calibrated range. Received: that of {self.source or self.name!r}, which is "
                + ("found at run time." if self.spec.dynamic else "not calibrated. Call tfcompress.calibrate or train.")
            )
        return self.found()

    @property
    def grid(self) -> Grid:
        """The grid on which the tensor lies in a file; raises ValueError if there is no range."""
        return Grid.of_range(*self.range, self.spec.bits, self.spec.symmetric)

    @property
    def scale(self) -> Tensor:
        """The scale of the grid, float32, as a tensor; 0 without a range."""
        if self.fixed is not None:
            low, high = (ops.convert_to_tensor(np.float32(end)) for end in self.fixed)
        else:
            low, high = self.now()
        return self.spec.scale(low, high)

    def grid_now(self) -> tuple[Tensor, Tensor]:
        """Return the scale and the zero point, a whole number counted from the lowest, float32, as a file has them."""
        narrow = self.spec.symmetric
        if self.fixed is not None:
            found = nudged_grid(np, *checked_range(*self.fixed), self.spec.bits, narrow)
        else:
            low, high = map(ops.stop_gradient, self.now())
            found = nudged_grid(ops, low, high, self.spec.bits, narrow)
        return ops.convert_to_tensor(found[2]), ops.convert_to_tensor(found[4])

    def found(self) -> tuple[float, float]:
        """Return the range that was found from data, as numbers."""
        low, high = read(self.ends)
        return float(low), float(high)

    def now(self) -> tuple[Tensor, Tensor]:
        """Return the range that was found from data, as tensors."""
        ends = ops.convert_to_tensor(self.ends.value)
        return ends[0], ends[1]

    def see(self, seen: Mapping[str, Any] | None) -> None:
        """Keep what calibration has seen of the model's inputs, in plain lists: Keras tracks what is assigned."""
        object.__setattr__(self, "seen", None if seen is None else {name: list(parts) for name, parts in seen.items()})

    def set_range(self, minimum: float, maximum: float, settled: bool = False) -> None:
        """Set the range, as calibrated; `settled`: it stays in training as long as batches lie in it."""
        checked_range(minimum, maximum)
        put(self.ends, [minimum, maximum])
        self.counts.assign([FIXED if settled else SETTLED, int(read(self.counts)[1])])

    def build(self, input_shape: Any = None) -> None:
        """Create the state: the ends of the range; how often they were updated, and the training step."""
        if self.learns:
            self.ends = self._add("range", "float32")
            self.counts = self._add("counts", "int32")
        self.built = True

    def meant(self, x: Tensor) -> Tensor:
        """Return of float32 values those that the range is for."""
        return unmasked(x, self.spec.bits) if self.scores else x

    def _add(self, name: str, dtype: str) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=(2,),
            dtype=dtype,
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )

    def call(self, inputs: Tensor, training: bool | None = None, observe: bool = True) -> Tensor:
        """Return `inputs` on the grid.

        Without `observe` they are means of numbers on the grid already: the range doesn't follow them, and what lies
        halfway, as many means do, goes up.
        """
        x = ops.cast(inputs, "float32")
        if not observe:
            x = x + UP * self.scale
        if self.spec.dynamic:
            y = self._dynamic(x)
        elif self.fixed is not None:
            y = self.quantized(x, *(np.float32(end) for end in self.fixed))
        elif training and observe:
            y = self.in_training(x)
        else:
            counts = ops.convert_to_tensor(self.counts.value)
            y = ops.where(counts[0] > 0, self.quantized(x, *self.now()), x)
        return ops.cast(y, inputs.dtype)

    def in_training(self, x: Tensor) -> Tensor:
        """Let the range follow a batch, and return the batch on the grid."""
        return self.quantized(x, *self._observe(x), past_relu=True)

    def quantized(self, x: Tensor, low: Tensor, high: Tensor, past_relu: bool = False) -> Tensor:
        """Return a tensor fake-quantized in a range."""
        how: dict[str, Any] = {"bits": self.spec.bits, "narrow": self.spec.symmetric, "past_relu": past_relu}
        return fake_quant_given(x, low, high, nonnegative=self.nonnegative, **how)

    def _dynamic(self, x: Tensor) -> Tensor:
        axes = tuple(range(1, len(x.shape)))
        still = ops.stop_gradient(x)
        if self.spec.symmetric:
            limit = ops.max(ops.abs(still), axis=axes, keepdims=True)
            scale = ops.maximum(limit, 1e-30) / float(2 ** (self.spec.bits - 1) - 1)
            return x + ops.stop_gradient(ops.round(x / scale) * scale - x)
        low = ops.minimum(ops.min(still, axis=axes, keepdims=True), 0.0)
        high = ops.maximum(ops.max(still, axis=axes, keepdims=True), 0.0)
        steps = float(2**self.spec.bits - 1)
        scale = ops.maximum(high - low, 1e-30) / steps
        zero = ops.round(-low / scale)
        integers = ops.clip(ops.round(x / scale) + zero, 0.0, steps)
        return x + ops.stop_gradient((integers - zero) * scale - x)

    def _observe(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Move the range towards that of a batch, and return it."""
        x = self.meant(ops.stop_gradient(x))
        high = ops.maximum(ops.max(x), 0.0)
        low = ops.zeros(()) if self.nonnegative else ops.minimum(ops.min(x), 0.0)
        low, high = range_over_replicas(low, high)
        if self.spec.symmetric:
            high = ops.maximum(-low, high)
            low = -high
        old, counts = (ops.convert_to_tensor(v.value) for v in (self.ends, self.counts))
        updates, step = ops.unstack(counts, 2)
        share = self._share(updates)
        if self.from_zero:
            old_high = old[1]
            moves = self._moves(high, high > old_high + self.spec.scale(0.0, old_high), updates, step)
            high = ops.where(moves, old_high + share * (high - old_high), old_high)
            high = high * _widened(high)
            low = 0.0
        else:
            old_low, old_high = ops.unstack(old, 2)
            scale = self.spec.scale(old_low, old_high)
            beyond = ops.logical_or(low < old_low - scale, high > old_high + scale)
            moves = self._moves(high - low, beyond, updates, step)
            seen = ops.stack([low, high])
            if self.margin:
                seen = seen * ops.where(ops.logical_and(low < 0, updates < SETTLED), 1.0 + self.margin, 1.0)
            low, high = ops.unstack(ops.where(moves, old + share * (seen - old), old), 2)
            wider = _widened(high - low)
            low, high = low * wider, high * wider
        self.ends.assign(ops.stack([low, high]))
        self.counts.assign(ops.stack([ops.where(moves, ops.minimum(updates + 1, SETTLED), updates), step + 1]))
        return low, high

    def _share(self, updates: Tensor) -> Tensor:
        """Return what a batch counts for in the moving average."""
        momentum = self.spec.momentum
        share = (1.0 - momentum) / (1.0 - ops.power(momentum, ops.cast(updates + 1, "float32")))
        return ops.where(updates == 0, 1.0, share)  # exactly

    def _moves(self, width: Tensor, beyond: Tensor, updates: Tensor, step: Tensor) -> Tensor:
        """Return whether a batch of that width moves the range; `beyond`: whether it goes beyond the old one."""
        moves = ops.logical_and(ops.isfinite(width), ops.logical_or(updates < FIXED, beyond))
        if self.freeze_step is None:
            return moves
        return ops.logical_and(moves, ops.logical_or(step < self.freeze_step, updates == 0))

    def compute_output_spec(self, inputs: Any, training: bool | None = None, observe: bool = True) -> keras.KerasTensor:
        """Return the shape and dtype of the inputs."""
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        config.pop("dtype", None)
        return {
            **config,
            "spec": dataclasses.asdict(self.spec),
            "fixed": self.fixed,
            "freeze_step": self.freeze_step,
            "source": self.source,
            "margin": self.margin,
            "nonnegative": self.nonnegative,
            **({"scores": True} if self.scores else {}),
            **({"seen": self.seen} if self.seen else {}),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ActivationQuantizer:
        """Make a quantizer, without its range, from `get_config`'s result."""
        return cls(**{**config, "spec": ActivationSpec(**config["spec"])})


def _widened(width: Tensor) -> Tensor:
    """Return the factor by which a range becomes wide enough for a file."""
    return ops.maximum(LEAST / ops.maximum(width, 1e-30), 1.0)


def activation_quantizers(model: keras.Model) -> list[ActivationQuantizer]:
    """Return the activation quantizers of a model, in the order of its layers."""
    return [layer for layer in flatten_layers(model) if isinstance(layer, ActivationQuantizer)]


def wanted_activations(model: keras.Model) -> ActivationSpec | None:
    """Return how a model's activations are meant to be quantized, even if no layer has an integer kernel."""
    found = (part.spec for part in activation_quantizers(model))
    return next(found, None) or next((part.activations for part in weight_quantizers(model)), None)
