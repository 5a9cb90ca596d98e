"""What is quantized and how: frozen specifications, and the recipes that go by a name."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any

from tfcompress.core.arguments import check_choice, check_fields, check_flag, is_whole, says_fields
from tfcompress.core.limits import MOST
from tfcompress.core.names import did_you_mean
from tfcompress.core.old_calls import accepts_old_fields, drops_old_fields
from tfcompress.quantization.arithmetic.choice import ARITHMETICS, XNNPACK
from tfcompress.quantization.numerics.finite import check_bits

WEIGHT_GRANULARITIES = ("per_channel", "per_tensor")
BLOCKS = (16, 32, 64, 128, 256)
"""How many inputs may share a scale, where each output channel has several: those that kernels of runtimes have."""

MOST_BITS_IN_BLOCKS, LEAST_BLOCK = 4, 32
"""What LiteRT's kernel for weights in blocks takes."""

FEW_VALUES = ("binary", "ternary")
"""Ranges that say what each weight becomes, too."""

WEIGHT_RANGES = ("minmax", "mse", "learned", *FEW_VALUES)
ACTIVATION_RANGES = ("minmax", "ema", "percentile", "mse", "entropy", "learned", "learned_offset", "pact")
TRAINED_RANGES = ("learned", "learned_offset", "pact")
"""Those whose ends the optimizer trains beside the weights."""

WEIGHT_BITS = 8
"""The most bits of weights that runtimes have kernels for."""


def _checked_step(name: str, step: Any) -> int | None:
    if step is not None and (not is_whole(step) or not 0 <= step <= MOST):
        raise ValueError(f"Expected {name} to be a training step of at least 0, or None. Received: {name}={step!r}.")
    return None if step is None else int(step)


def _checked_number(name: str, value: Any, wanted: str, holds: Callable[[float], bool]) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not holds(float(value)):
        raise ValueError(f"Expected {name} {wanted}. Received: {name}={value!r}.")
    return float(value)


def _fields_of(spec: type, values: Any, least: tuple[str, ...] = ()) -> dict[str, Any]:
    return check_fields(f"a {spec.__name__}", values, (field.name for field in dataclasses.fields(spec)), least)


def _set(spec: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass that is being made: plain numbers in place of those of NumPy, for JSON."""
    for name, value in values.items():
        object.__setattr__(spec, name, value)


_OF_WEIGHTS = {"symmetric": True, "codebook": "uniform"}
"""What a `WeightSpec` had before, and what the files of that time say of it."""


@drops_old_fields(**_OF_WEIGHTS)
@says_fields
@dataclasses.dataclass(frozen=True)
class WeightSpec:
    """How kernels are quantized: on a uniform grid in whose middle is zero, as integer kernels want it.

    Attributes:
        bits: 2 to 16; 2 with "binary" and "ternary", whatever isn't said.
        granularity: "per_channel", one scale for each output channel; "per_tensor"; or a number of inputs, 16, 32, 64,
            128 or 256: one scale for each block of so many inputs of each output channel of a dense layer (EinsumDense
            and the projections of attention, too), whose activations stay float then. What has no such blocks gets a
            scale for each channel, and `quantize` says so.
            A kernel with a codebook for all of it has one scale (`quantization.weights.quantizer`).
        range: "minmax": the largest |w|; "mse": the range of least squared error, values beyond it saturate;
            "learned": the scale is trained beside the weights (LSQ, `quantization.weights.learned_step`); "binary",
            "ternary": two or three values for each channel (`quantization.numerics.few_values`).
    """

    bits: int = 8
    granularity: str | int = "per_channel"
    range: str = "minmax"

    def __post_init__(self) -> None:
        _set(self, bits=check_bits(self.bits))
        if is_whole(self.granularity) and self.granularity in BLOCKS:
            _set(self, granularity=int(self.granularity))
        else:
            known = f", or one of the blocks {', '.join(map(str, BLOCKS))}"
            check_choice("granularity", self.granularity, WEIGHT_GRANULARITIES, known)
        check_choice("range", self.range, WEIGHT_RANGES)
        if self.block and self.range in FEW_VALUES:
            raise ValueError(
                f"Expected granularity='per_channel' or 'per_tensor' with range={self.range!r}. Received: "
                f"granularity={self.granularity}. Blocks go with range='minmax', 'mse' or 'learned'."
            )
        if self.range in FEW_VALUES:
            if self.bits not in (2, type(self).bits):
                raise ValueError(
                    f"Expected bits=2, or none, with range={self.range!r}. Received: bits={self.bits}. More bits go "
                    "with range='minmax', 'mse' or 'learned'."
                )
            _set(self, bits=2)

    @property
    def block(self) -> int | None:
        """How many inputs of a dense layer share a scale; `None`: there are no blocks.

        >>> WeightSpec(bits=4, granularity=32).block
        32
        """
        return None if isinstance(self.granularity, str) else self.granularity

    @property
    def blocks_in_tflite(self) -> bool:
        """Whether LiteRT has a kernel for its blocks; true where there are none."""
        return not self.block or (self.bits <= MOST_BITS_IN_BLOCKS and self.block % LEAST_BLOCK == 0)

    @classmethod
    def from_dict(cls, values: Any) -> WeightSpec:
        """Return what a dict says, such as `dataclasses.asdict` makes; also one of an earlier version."""
        if isinstance(values, dict):
            values = {name: value for name, value in values.items() if _OF_WEIGHTS.get(name, ...) != value}
        return cls(**_fields_of(cls, values))


@accepts_old_fields(step="scale")
@says_fields
@dataclasses.dataclass(frozen=True)
class ActivationSpec:
    """How activations are quantized.

    Attributes:
        bits: 2 to 16.
        range: How calibration finds the range: "minmax", the extremes of all data; "percentile", "mse" (least
            squared error) or "entropy" (least Kullback-Leibler divergence) of all values; or "ema", the moving
            average of each batch's extremes, which is meant for training: it alone depends on how the data is cut
            into batches and ordered. Training goes on from what was found with the moving average. Or it is trained
            beside the weights, from where calibration lets it begin: "learned" (LSQ, the scale), "learned_offset"
            (LSQ+, scale and offset) or "pact" (the clip); see `quantization.graph.learned_quantizer`.
        symmetric: Whether zero is the middle of the range.
        dynamic: Whether the range is that of each sample at run time; nothing is calibrated then.
        percentile: For "percentile": the share of values, in per cent, that the range holds.
        momentum: For "ema" and for training: what remains of the old average at each step.
        clip_decay: For "pact": what the square of each clip counts for in the loss.
        arithmetic: Whose rounding inference simulates where activations have 8 bits: "xnnpack" (LiteRT on
            processors), "reference" (TFLite Micro) or "onnxruntime"; see `quantization.arithmetic`.
    """

    bits: int = 8
    range: str = "minmax"
    symmetric: bool = False
    dynamic: bool = False
    percentile: float = 99.99
    momentum: float = 0.99
    clip_decay: float = 1e-4
    arithmetic: str = XNNPACK

    def __post_init__(self) -> None:
        check_choice("range", self.range, ACTIVATION_RANGES)
        check_choice("arithmetic", self.arithmetic, tuple(ARITHMETICS))
        _set(
            self,
            bits=check_bits(self.bits),
            symmetric=check_flag("symmetric", self.symmetric),
            dynamic=check_flag("dynamic", self.dynamic),
            percentile=_checked_number("percentile", self.percentile, "above 50, up to 100", lambda x: 50 < x <= 100),
            momentum=_checked_number("momentum", self.momentum, "in [0, 1)", lambda x: 0 <= x < 1),
            clip_decay=_checked_number("clip_decay", self.clip_decay, "at least 0", lambda x: 0 <= x < math.inf),
        )
        if self.dynamic and self.trained:
            raise ValueError(
                f"Expected dynamic=False with range={self.range!r}, which is trained. Received: dynamic=True. Take one "
                "of both."
            )

    @property
    def kernel_bits(self) -> tuple[int, ...]:
        """Bits of activations that the runtimes have kernels for."""
        return (8,) if self.dynamic else (8, 16)

    @property
    def trained(self) -> bool:
        """Whether the optimizer trains the range."""
        return self.range in TRAINED_RANGES

    def scale(self, low: Any, high: Any) -> Any:
        """Return the scale of a range; on a symmetric one the lowest integer stays unused.

        >>> ActivationSpec().scale(0.0, 255.0), ActivationSpec(symmetric=True).scale(-127.0, 127.0)
        (1.0, 1.0)
        """
        return (high - low) / float(2**self.bits - (2 if self.symmetric else 1))


@says_fields
@dataclasses.dataclass(frozen=True)
class QuantizeConfig:
    """What is quantized and how.

    Attributes:
        weights: How kernels are.
        activations: How activations are; `None`: they stay float (weight-only).
        freeze_ranges_step: The training step from which the ranges of activations stay as they are; `None`: never.
        freeze_batch_norm_step: The training step from which batch normalization uses, and no longer moves, its
            statistics; `None`: never.
        float16: Whether kernels are rounded to float16 instead; `weights` and `activations` don't count then.
        first_and_last_bits: The least bits of the first and the last layers with a kernel, of weights and activations:
            those that no other is before, or behind. 8 is what the literature of few bits has; `None`: they are as
            the others.

    Example:

    >>> QuantizeConfig(activations=ActivationSpec(range="percentile"), freeze_ranges_step=200).activations.range
    'percentile'
    """

    weights: WeightSpec = WeightSpec()
    activations: ActivationSpec | None = ActivationSpec()
    freeze_ranges_step: int | None = None
    freeze_batch_norm_step: int | None = None
    float16: bool = False
    first_and_last_bits: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.weights, WeightSpec):
            raise TypeError(f"Expected weights to be a WeightSpec. Received: {self.weights!r}.")
        if self.activations is not None and not isinstance(self.activations, ActivationSpec):
            raise TypeError(f"Expected activations to be an ActivationSpec or None. Received: {self.activations!r}.")
        if self.weights.block and self.activations is not None:
            raise ValueError(
                f"Expected activations=None with weights in blocks (granularity={self.weights.block}): kernels of "
                f"integers have one scale for each channel. Received: activations={self.activations!r}. Leave "
                "activations float, or take granularity='per_channel'."
            )
        _set(self, float16=check_flag("float16", self.float16))
        if self.first_and_last_bits is not None:
            _set(self, first_and_last_bits=check_bits(self.first_and_last_bits, "first_and_last_bits"))
        for name in ("freeze_ranges_step", "freeze_batch_norm_step"):
            _set(self, **{name: _checked_step(name, getattr(self, name))})

    @property
    def at_the_ends(self) -> QuantizeConfig:
        """The config of the first and the last layers.

        >>> config = QuantizeConfig(WeightSpec(bits=4), ActivationSpec(bits=4), first_and_last_bits=8)
        >>> config.at_the_ends.weights.bits, config.at_the_ends.activations.bits
        (8, 8)
        """
        least = self.first_and_last_bits
        if least is None:
            return self
        few = self.weights.range in FEW_VALUES and least > self.weights.bits
        weights = dataclasses.replace(
            self.weights, bits=max(least, self.weights.bits), range="minmax" if few else self.weights.range
        )
        activations = self.activations
        if activations is not None:
            activations = dataclasses.replace(activations, bits=max(least, activations.bits))
        return dataclasses.replace(self, weights=weights, activations=activations)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> QuantizeConfig:
        """Return the configuration that `to_dict` was called on."""
        values = _fields_of(cls, values, least=("weights", "activations"))
        activations = values["activations"]
        values["weights"] = WeightSpec.from_dict(values["weights"])
        values["activations"] = (
            None if activations is None else ActivationSpec(**_fields_of(ActivationSpec, activations))
        )
        return cls(**values)

    @classmethod
    def get(cls, config: Any) -> QuantizeConfig:
        """Return a configuration itself, or the recipe of that name.

        >>> QuantizeConfig.get("int8_wieghts")
        Traceback (most recent call last):
        ...
        ValueError: Expected a QuantizeConfig or one of ... Did you mean 'int8_weights'?
        """
        if isinstance(config, cls):
            return config
        if isinstance(config, str) and config in RECIPES:
            return RECIPES[config]
        raise ValueError(
            f"Expected a QuantizeConfig or one of {', '.join(map(repr, RECIPES))}. Received: {config!r}."
            f"{did_you_mean(config, RECIPES)}"
        )


RECIPES = {
    "int8": QuantizeConfig(),
    "int8_per_tensor": QuantizeConfig(weights=WeightSpec(granularity="per_tensor")),
    "int8_weights": QuantizeConfig(activations=None),
    "dynamic_int8": QuantizeConfig(activations=ActivationSpec(dynamic=True)),
    "int16x8": QuantizeConfig(activations=ActivationSpec(bits=16, symmetric=True)),
    "w4a8": QuantizeConfig(weights=WeightSpec(bits=4)),
    "int4_weights": QuantizeConfig(weights=WeightSpec(bits=4), activations=None),
    "int4_blockwise": QuantizeConfig(weights=WeightSpec(bits=4, granularity=32), activations=None),
    "int2_weights": QuantizeConfig(weights=WeightSpec(bits=2), activations=None),
    "dynamic_int4": QuantizeConfig(weights=WeightSpec(bits=4), activations=ActivationSpec(dynamic=True)),
    "float16": QuantizeConfig(activations=None, float16=True),
}
"""By the name that `tfcompress.quantize` takes."""
