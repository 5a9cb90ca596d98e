"""What the flags of `quantize` mean together."""

from __future__ import annotations

import dataclasses
from typing import Any

from absl.flags import FlagValues

from tfcompress.cli.wrong_use import UsageError, refuse_without_effect
from tfcompress.pipeline import Dataset, check_fits, digits
from tfcompress.pipeline.quantize_aware_training import finds_ranges
from tfcompress.quantization.quantize_config import QuantizeConfig

FROZEN = ("ranges", "batch_norm")


def check(values: FlagValues) -> None:
    """Raise UsageError if flags contradict each other; nothing is loaded for that."""
    config = QuantizeConfig.get(values.recipe)
    if values.range is not None and not finds_ranges(config):
        raise UsageError(f"Expected no --range with --recipe={values.recipe}, which finds no ranges from data.")
    if values.inference_io != "float32":
        if not values.outputs:
            raise UsageError(f"Expected --outputs with --inference_io={values.inference_io}: it is for these files.")
        if not finds_ranges(config) or config.activations is None or config.activations.bits != 8:
            raise UsageError(
                f"Expected --inference_io=float32 with --recipe={values.recipe}, whose activations aren't in 8 bits. "
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
        refuse_without_effect(values, "without a .onnx file among --outputs", "opset")
    if not finds_ranges(QuantizeConfig.get(values.recipe)) and not (
        values.correct_bias or values.reestimate_batch_norm
    ):
        refuse_without_effect(values, f"with --recipe={values.recipe}", "calibration_samples")


def config_of(values: FlagValues, steps_in_epoch: int) -> QuantizeConfig:
    """Return the configuration that flags ask for.

    Args:
        values: The flags, checked.
        steps_in_epoch: Training steps in an epoch.

    Raises:
        UsageError: If something is frozen after the end of training.
    """
    config = QuantizeConfig.get(values.recipe)
    if values.range is not None and config.activations is not None:
        config = dataclasses.replace(config, activations=dataclasses.replace(config.activations, range=values.range))
    steps: dict[str, int | None] = {}
    for what in FROZEN:
        epoch, step = values[f"freeze_{what}_epoch"].value, values[f"freeze_{what}_step"].value
        steps[what] = step if epoch is None else epoch * steps_in_epoch
        total = values.qat_epochs * steps_in_epoch
        if step is not None and step >= total:
            raise UsageError(f"Expected --freeze_{what}_step below {total}, the steps of training. Received: {step}.")
    return dataclasses.replace(config, freeze_ranges_step=steps["ranges"], freeze_batch_norm_step=steps["batch_norm"])


def data_for(model: Any, given: Dataset | None, values: FlagValues) -> Dataset | None:
    """Return the data to calibrate, train and evaluate with: that of `--data`, or the digits if they fit the model.

    Raises:
        UsageError: If there is none, and it is needed.
        ValueError: If the data of `--data` doesn't fit.
    """
    if given is not None:
        check_fits(model, given)
        return given
    data = digits()
    try:
        check_fits(model, data)
    except ValueError:
        needs = _needs_data(values)
        if needs:
            raise UsageError(
                f"Expected --data with {needs}, an .npz file with x_train, y_train, x_test and y_test. Received: none, "
                f"and scikit-learn's digits don't fit {values.model}."
            ) from None
        return None
    return data


def _needs_data(values: FlagValues) -> str:
    if finds_ranges(QuantizeConfig.get(values.recipe)):
        return f"--recipe={values.recipe}"
    if values.qat_epochs:
        return f"--qat_epochs={values.qat_epochs}"
    return next((f"--{name}" for name in ("correct_bias", "reestimate_batch_norm") if values[name].value), "")
