"""Weights on a uniform, symmetric grid: integers with one scale, or with one for each channel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.sharding import gathered
from tfcompress.core.transform import Encoded, WeightTransform, decoded, put
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.quantization.encoding import Affine
from tfcompress.quantization.numerics.fake_quant import fake_quant_symmetric, symmetric_limit
from tfcompress.quantization.numerics.nudging import symmetric_grid
from tfcompress.quantization.numerics.tensorflow_kernels import at_hand
from tfcompress.quantization.quantize_config import ActivationSpec, WeightSpec
from tfcompress.quantization.ranges.weight_limits import weight_limit
from tfcompress.quantization.weights.blocks import Blocks

Tensor = Any


@keras.saving.register_keras_serializable(package="tfcompress")
class WeightQuantizer(WeightTransform):
    """Puts a weight on a uniform, symmetric grid; the gradient passes straight through.

    The range is that of the weight itself in every call, so that it follows training. The lowest integer stays
    unused, as in tfmot and in the specification of TFLite.

    Args:
        spec: Bits, granularity and range.
        axis: The axes of the weight whose entries have a scale of their own; `None`: one scale for all.
        activations: How activations are meant to be quantized in the model that it is part of, which no quantizer
            says where each layer stays a float fallback; `None`: they aren't.
        blocks: In place of `axis`: how many places along each axis of the weight share a scale.
    """

    last = True

    def __init__(
        self,
        spec: WeightSpec,
        axis: Sequence[int] | None = None,
        activations: ActivationSpec | None = None,
        blocks: Sequence[int] | None = None,
    ):
        self.spec = spec
        self.axis = None if axis is None else tuple(int(i) for i in axis)
        self.activations = activations
        self.blocks = None if blocks is None else Blocks(blocks)

    def build(self, weight: keras.Variable, add_state: Callable[..., keras.Variable]) -> None:
        """Create the state: for "mse" the ratio of the range to the largest |w|, 1 at first."""
        self.ratio: keras.Variable | None = None
        if self.spec.range == "mse":
            self.ratio = add_state("ratio", self.scales_shape(weight.shape), "float32", "ones")

    def apply(self, value: Tensor) -> Tensor:
        """Return the values on the grid."""
        x = at_hand(ops.cast(value, "float32"))
        limit = self.limit(x if isinstance(x, np.ndarray) else ops.stop_gradient(x))
        quantized = fake_quant_symmetric(self.unfold(x), limit, bits=self.spec.bits, axis=self.scale_axes)
        return ops.cast(self.fold(quantized), value.dtype)

    def encode(self, value: np.ndarray | Encoded) -> Affine:
        """Return the integers and scales of the values that `apply` gives."""
        x = decoded(value).astype(np.float32, copy=False)
        limit = np.asarray(gathered(self.limit(x)))
        return self.folded(Affine.symmetric(self.unfold(x), limit, self.spec.bits, self.scale_axes or ()))

    @property
    def scale_axes(self) -> tuple[int, ...] | None:
        """The axes of what `unfold` gives whose entries have a scale of their own; `None`: one scale for all."""
        return self.axis if self.blocks is None else self.blocks.axis

    def scales_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the scales of a weight of a shape, as `limit` and `scale` give them."""
        return tuple(shape[axis] for axis in self.axis or ()) if self.blocks is None else self.blocks.count(shape)

    def unfold(self, x: Tensor) -> Tensor:
        """Return a weight in the shape in which what shares a scale is whole along some axes."""
        return x if self.blocks is None else self.blocks.unfold(x)

    def fold(self, x: Tensor) -> Tensor:
        """Return the weight that `unfold` was called on."""
        return x if self.blocks is None else self.blocks.fold(x)

    def folded(self, made: Affine) -> Affine:
        """Return the encoding of a weight for that of what `unfold` gives."""
        if self.blocks is None:
            return made
        scale = made.scale.reshape(made.scale.shape[::2])
        return Affine(self.blocks.fold(made.integers), scale, bits=made.bits)

    def spread(self, scales: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Return what is given for each scale for each value of a weight of a shape, read-only."""
        if self.blocks is not None:
            inner = np.reshape(scales, [size for count in self.blocks.count(shape) for size in (count, 1)])
            whole = [size for pair in zip(inner.shape[::2], self.blocks.sizes, strict=True) for size in pair]
            return np.asarray(self.blocks.fold(np.broadcast_to(inner, whole)))
        sizes = [size if at in (self.axis or ()) else 1 for at, size in enumerate(shape)]
        return np.broadcast_to(np.reshape(scales, sizes), shape)

    def limit(self, value: Tensor) -> Tensor:
        """Return the largest |value| that the grid holds: a scalar, or one for each scale."""
        limit = symmetric_limit(self.unfold(value), self.scale_axes)
        return limit if self.ratio is None else limit * at_hand(ops.convert_to_tensor(self.ratio.value))

    def scale(self, value: Tensor) -> Tensor:
        """Return the scale of the grid: a scalar, one for each entry of `axis`, or one for each block."""
        limit = self.limit(value)
        return symmetric_grid(np if isinstance(limit, np.ndarray | np.generic) else ops, limit, self.spec.bits)[2]

    def fit(self, value: Tensor) -> None:
        """Set the ratio to that of least squared error; nothing to do with "minmax"."""
        if self.ratio is None:
            return
        x = np.asarray(gathered(value), np.float32)
        x = self.unfold(x)
        best = np.asarray(weight_limit(x, self.scale_axes, self.spec.bits, self.spec.range))
        largest = np.asarray(ops.convert_to_numpy(symmetric_limit(x, self.scale_axes)))
        put(self.ratio, np.where(largest > 0, best / np.maximum(largest, 1e-30), 1.0).astype("float32"))

    def hold(self, value: Tensor, limit: Any) -> None:
        """Let the grid be that of a limit with a weight that lies on it; with "minmax" the weight has that itself."""
        if self.ratio is not None:
            x = self.unfold(np.asarray(gathered(value)))
            largest = np.asarray(ops.convert_to_numpy(symmetric_limit(x, self.scale_axes)))
            put(self.ratio, np.where(largest > 0, limit / np.maximum(largest, 1e-30), 1.0).astype("float32"))

    @property
    def ends(self) -> tuple[int, int]:
        """The least and the largest integer."""
        highest = int(2 ** (self.spec.bits - 1) - 1)
        return -highest, highest

    def brief(self) -> str:
        """Return the bits of activations and weights, and what of the specifications isn't as usual.

        >>> WeightQuantizer(WeightSpec(bits=4, granularity="per_tensor"), None, ActivationSpec()).brief()
        'int8x4 per tensor'
        """
        bits, spec = self.spec.bits, self.activations
        words = ["per tensor"] if self.spec.granularity == "per_tensor" else []
        words += [f"in blocks of {self.spec.block}"] if self.blocks else []
        words += [f"{self.spec.range} weights"] if self.spec.range != "minmax" else []
        if spec is None:
            return " ".join([f"int{bits} weights", *words])
        words += [f"{spec.range} activations"] if spec.range != "minmax" else []
        kind = f"int{bits}" if spec.bits == bits else f"int{spec.bits}x{bits}"
        return " ".join([f"dynamic {kind}" if spec.dynamic else kind, *words])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        activations = None if self.activations is None else dataclasses.asdict(self.activations)
        config = {"spec": dataclasses.asdict(self.spec), "axis": self.axis, "activations": activations}
        return config | ({} if self.blocks is None else {"blocks": self.blocks.sizes})

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WeightQuantizer:
        """Make a quantizer from `get_config`'s result."""
        activations = config.get("activations")
        return cls(
            WeightSpec.from_dict(config["spec"]),
            config["axis"],
            None if activations is None else ActivationSpec(**activations),
            config.get("blocks"),
        )


def weight_quantizers(model: keras.Model) -> list[WeightQuantizer]:
    """Return the weight quantizers of a model, in the order of its layers."""
    return [t for layer in wrapped_layers(model) for _, t in layer.transforms if isinstance(t, WeightQuantizer)]


def keeps_activations(layer: Any) -> bool:
    """Return whether weights alone of a wrapped layer are quantized."""
    found = [t for _, t in getattr(layer, "transforms", ()) if isinstance(t, WeightQuantizer)]
    return bool(found) and all(t.activations is None for t in found)
