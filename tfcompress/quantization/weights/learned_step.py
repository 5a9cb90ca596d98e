"""Weights on a uniform grid whose scale is trained beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.sharding import gathered
from tfcompress.core.transform import Encoded, decoded, put
from tfcompress.quantization.encoding import Affine
from tfcompress.quantization.numerics.learned_scale import fake_quant_scaled, of_share, with_gradient_times
from tfcompress.quantization.numerics.nudging import grid_of_scale, is_host
from tfcompress.quantization.numerics.tensorflow_kernels import at_hand
from tfcompress.quantization.ranges.weight_limits import weight_limit
from tfcompress.quantization.weights.uniform import WeightQuantizer

Tensor = Any


@keras.saving.register_keras_serializable(package="tfcompress")
class LearnedStep(WeightQuantizer):
    """Puts a weight on a symmetric grid whose scale the optimizer trains: LSQ.

    "Learned step size quantization", Esser et al. 2020, arXiv:1902.08153. The gradient of the scale is multiplied by
    1 / sqrt(n * largest integer), n the weights that share it (section 2.2). Of 2 and 3 bits all integers are used, as
    in the paper; from 4 on the lowest is not, as the runtimes' kernels want it.

    What is trained is the share of the scale that training began with. With gradient descent the scale moves as in the
    paper; with Adam, whose steps are of one size whatever the gradient's, it moves by parts of what it was.
    """

    def build(self, weight: keras.Variable, add_state: Callable[..., keras.Variable]) -> None:
        """Create the scale, which `fit` sets."""
        self.ratio = None
        shape = self.scales_shape(weight.shape)
        self.start = add_state("start", shape, "float32", "ones")
        self.share = add_state("share", shape, "float32", "ones", trainable=True)
        sharing = int(np.prod(weight.shape)) / max(1, int(np.prod(shape)))
        self.factor = (sharing * self.highest) ** -0.5

    @property
    def highest(self) -> int:
        """The largest integer."""
        return int(2 ** (self.spec.bits - 1) - 1)

    @property
    def ends(self) -> tuple[int, int]:
        """The least and the largest integer."""
        return -self.highest - (0 if self.narrow else 1), self.highest

    @property
    def narrow(self) -> bool:
        """Whether the lowest integer stays unused."""
        return self.spec.bits > 3

    def apply(self, value: Tensor) -> Tensor:
        """Return the values on the grid."""
        x = at_hand(ops.cast(value, "float32"))
        start, share = (at_hand(ops.convert_to_tensor(variable.value)) for variable in (self.start, self.share))
        if not isinstance(x, np.ndarray):
            share = with_gradient_times(share, of_share(self.factor, start))
        how: dict[str, Any] = {"bits": self.spec.bits, "narrow": self.narrow, "axis": self.scale_axes}
        return ops.cast(self.fold(fake_quant_scaled(self.unfold(x), start * share, **how)), value.dtype)

    def encode(self, value: np.ndarray | Encoded) -> Affine:
        """Return the integers of the values that `apply` gives, and the scale itself."""
        x = self.unfold(decoded(value).astype(np.float32, copy=False))
        scale = np.asarray(gathered(self.scale(x)))
        return self.folded(Affine.of_scale(x, scale, self.spec.bits, self.scale_axes or (), self.narrow))

    def limit(self, value: Tensor) -> Tensor:
        """Return the largest value that the grid holds: a scalar, or one for each scale."""
        return self.scale(value) * float(self.highest)

    def scale(self, value: Tensor) -> Tensor:
        """Return the scale of the grid, whatever the weight is."""
        start, share = (at_hand(ops.convert_to_tensor(variable.value)) for variable in (self.start, self.share))
        return grid_of_scale(np if is_host(start, share) else ops, start * share, self.spec.bits, self.narrow)[2]

    def fit(self, value: Tensor) -> None:
        """Let the scale begin where LSQ begins it; with zeros alone, at that of the other channels."""
        x = self.unfold(np.asarray(gathered(value), np.float32))
        limit = weight_limit(x, self.scale_axes, self.spec.bits, "learned")
        scale = np.asarray(limit) / np.float32(self.highest)
        put(self.start, np.where(scale > 0, scale, np.max(scale) or 1.0).astype("float32"))
        put(self.share, np.ones_like(scale))
