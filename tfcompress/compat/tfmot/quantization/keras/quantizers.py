"""tfmot's quantizers: what they say of a tensor is read for models of Keras 3; for tf_keras tfmot's own are called."""

from __future__ import annotations

import abc
from typing import Any

import keras

from tfcompress.loading.keras2_packages import original_tfmot


class Quantizer(abc.ABC):
    """How a tensor is quantized.

    One with a way of its own, in `build` and `__call__`, is for models of tf_keras alone.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable(package="tfmot")(cls)

    @abc.abstractmethod
    def build(self, tensor_shape: Any, name: str, layer: Any) -> Any:
        """Return the variables, by name, that a layer gets for the quantizer."""

    @abc.abstractmethod
    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        """Return a tensor, quantized."""

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Quantizer:
        """Make a quantizer from `get_config`'s result."""
        return cls(**config)


class _Known(Quantizer):
    def __init__(self, **arguments: Any):
        self.__dict__.update(arguments)
        self._arguments = tuple(arguments)

    def _of_tfmot(self) -> Any:
        kind = next(cls.__name__ for cls in type(self).__mro__ if cls.__module__ == __name__)
        return getattr(original_tfmot().quantization.keras.quantizers, kind)(**_Known.get_config(self))

    def build(self, tensor_shape: Any, name: str, layer: Any) -> Any:
        """Return what tfmot's quantizer does."""
        return self._of_tfmot().build(tensor_shape, name, layer)

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        """Return what tfmot's quantizer does."""
        return self._of_tfmot()(inputs, training, weights, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in self._arguments}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), *self.get_config().values()))


class _Ranged(_Known):
    """A quantizer that finds the range of a tensor.

    Args:
        num_bits: Bits of an integer.
        per_axis: Whether each channel has a range of its own.
        symmetric: Whether zero is the middle of the range.
        narrow_range: Whether the lowest integer stays unused.
    """

    def __init__(self, num_bits: int, per_axis: bool, symmetric: bool, narrow_range: bool):
        super().__init__(num_bits=num_bits, per_axis=per_axis, symmetric=symmetric, narrow_range=narrow_range)


class LastValueQuantizer(_Ranged):
    """Takes the range that a tensor has now."""


class MovingAverageQuantizer(_Ranged):
    """Takes the moving average of the ranges of batches."""


class AllValuesQuantizer(_Ranged):
    """Takes the extremes of all batches."""


class FixedQuantizer(_Known):
    """Takes a range that is given.

    Args:
        num_bits: Bits of an integer.
        init_min: Lower end of the range.
        init_max: Upper end.
        narrow_range: Whether the lowest integer stays unused.
    """

    def __init__(self, num_bits: int, init_min: float, init_max: float, narrow_range: bool):
        super().__init__(num_bits=num_bits, init_min=init_min, init_max=init_max, narrow_range=narrow_range)
