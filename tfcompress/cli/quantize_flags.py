"""What the flags of `quantize` mean together."""

from __future__ import annotations

import dataclasses
from typing import Any

from absl.flags import FlagValues

from tfcompress.cli.data_flags import digits_of
from tfcompress.cli.wrong_use import UsageError, refuse_without_effect
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.pipeline import Dataset, check_fits
from tfcompress.pipeline.quantize_aware_training import finds_ranges
from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.recipes.config_file import layer_configs
from tfcompress.recipes.written_configs import read_quantize

FROZEN = ("ranges", "batch_norm")


def configs_of(values: FlagValues) -> tuple[QuantizeConfig, ...]:
    """Return what the flags, or the file of --config, quantize with."""
    if values.config is None:
        return (QuantizeConfig.get(values.recipe),)
    configs = layer_configs(values.config, read_quantize).configs
    return tuple(config for config in configs.values() if config is not None)


def find_ranges(values: FlagValues) -> bool:
    """Return whether ranges of activations are found from data."""
    return any(map(finds_ranges, configs_of(values)))


def _asked(values: FlagValues) -> str:
    return f"--recipe={values.recipe}" if values.config is None else f"--config={values.config}"


def check(values: FlagValues) -> None:
    """Raise UsageError if flags contradict each other; nothing is loaded for that."""
    if values.range is not None and not find_ranges(values):
        raise UsageError(f"Expected no --range with {_asked(values)}, which finds no ranges from data.")
    if values.inference_io not in (None, "float32"):
        if not values.outputs:
            raise UsageError(f"Expected --outputs with --inference_io={values.inference_io}: it is for these files.")
        if not any(finds_ranges(one) and one.activations and one.activations.bits == 8 for one in configs_of(values)):
            raise UsageError(
                f"Expected --inference_io=float32 with {_asked(values)}, whose activations aren't in 8 bits. "
                f"Received: --inference_io={values.inference_io}. Take --recipe=int8."
            )
    for what in FROZEN:
        epoch, step = (f"freeze_{what}_{unit}" for unit in ("epoch", "step"))
        given = [name for name in (epoch, step) if values[name].value is not None]
        if len(given) > 1:
            raise UsageError(f"Expected one of --{epoch} and --{step}. Received: both.")
        if given and not values.qat_epochs:
            raise UsageError(f"Expected --qat_epochs with --{given[0]}: without training nothing moves.")
        if epoch in given and values[epoch].value >= values.qat_epochs:
            raise UsageError(
                f"Expected --{epoch} below --qat_epochs={values.qat_epochs}. Received: {values[epoch].value}."
            )


def check_effects(values: FlagValues) -> None:
    """Raise UsageError if nothing would come of a flag that is given."""
    if not values.qat_epochs:
        refuse_without_effect(values, "without --qat_epochs", "preserve_sparsity", "learning_rate", "distribution")
    if not any(str(path).endswith(".onnx") for path in values.outputs or ()):
        refuse_without_effect(values, "without a .onnx file among --outputs", "opset", "weights")
    if values.config is not None:
        refuse_without_effect(values, "with --config, whose file says it for each layer", "recipe", "range")
    by_data = values.correct_bias or values.reestimate_batch_norm or values.rounding != "nearest"
    if not find_ranges(values) and not by_data:
        refuse_without_effect(values, f"with {_asked(values)}", "calibration_samples")


def config_of(values: FlagValues, steps_in_epoch: int) -> QuantizeConfig | LayerConfigs:
    """Return the configuration that flags ask for, or that of each layer.

    Args:
        values: The flags, checked.
        steps_in_epoch: Training steps in an epoch.

    Raises:
        UsageError: If something is frozen after the end of training.
    """
    steps: dict[str, int | None] = {}
    for what in FROZEN:
        epoch, step = values[f"freeze_{what}_epoch"].value, values[f"freeze_{what}_step"].value
        steps[what] = step if epoch is None else epoch * steps_in_epoch
        total = values.qat_epochs * steps_in_epoch
        if step is not None and step >= total:
            raise UsageError(f"Expected --freeze_{what}_step below {total}, the steps of training. Received: {step}.")
    fixed: dict[str, Any] = {f"freeze_{what}_step": step for what, step in steps.items() if step is not None}
    if values.config is not None:
        return layer_configs(values.config, lambda value: dataclasses.replace(read_quantize(value), **fixed))
    config = QuantizeConfig.get(values.recipe)
    if values.range is not None and config.activations is not None:
        config = dataclasses.replace(config, activations=dataclasses.replace(config.activations, range=values.range))
    return dataclasses.replace(config, **fixed)


def data_for(model: Any, given: Dataset | None, values: FlagValues) -> Dataset | None:
    """Return the data to calibrate, train and evaluate with: that of `--data`, or the digits, if the model is for them.

    Raises:
        UsageError: If there is none, and it is needed.
        ValueError: If the data of `--data` doesn't fit.
    """
    if given is not None:
        check_fits(model, given)
        return given
    data = digits_of(model)
    if data is None and (needs := _needs_data(values)):
        raise UsageError(
            f"Expected --data with {needs}, such as a folder of images by class. Received: none, and nothing says "
            f"that {values.model} was trained on scikit-learn's digits, the data that jobs have of their own."
        )
    return data


def _needs_data(values: FlagValues) -> str:
    if find_ranges(values):
        return _asked(values)
    if values.qat_epochs:
        return f"--qat_epochs={values.qat_epochs}"
    if values.rounding != "nearest":
        return f"--rounding={values.rounding}"
    names = ("correct_bias", "reestimate_batch_norm", "html", "markdown")
    return next((f"--{name}" for name in names if values[name].value), "")
