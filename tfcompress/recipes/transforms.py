"""What a step makes of a model without training: with its data, or in a trial without them."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any

import keras

from tfcompress import targets
from tfcompress.clustering import cluster
from tfcompress.clustering.kept_values import keep_values
from tfcompress.data.dataset import Dataset
from tfcompress.evaluation.summary import sparsity
from tfcompress.export.coded_file import check_coded
from tfcompress.export.for_target import Asked, settled
from tfcompress.export.inference_io import check_inference_io
from tfcompress.export.plan.scheme import check_bits
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.graph.keras_quantized import check_exports
from tfcompress.graph.strip import stripped
from tfcompress.npu.vela import check_npu
from tfcompress.pipeline.pruning_configs import data_for
from tfcompress.pipeline.quantize_aware_training import settling
from tfcompress.pipeline.training import steps_per_epoch
from tfcompress.pruning import OneShot, PruneConfig, keep_zeros, prune, shrink
from tfcompress.pruning.prune import update_masks
from tfcompress.quantization.ptq.equalization import equalize
from tfcompress.quantization.quantize import quantize
from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.recipes.order import training_after
from tfcompress.recipes.recipe import Recipe
from tfcompress.recipes.steps import Cluster, Equalize, Export, Prune, Quantize, Report, Shrink, Step, Training
from tfcompress.recipes.trainings import epochs_of
from tfcompress.runtime.runner import format_of
from tfcompress.tracing.row_counts import AUTO


@dataclasses.dataclass(frozen=True)
class Circumstances:
    """What a step takes effect in.

    Attributes:
        data: To look at; `None`: there is none.
        training: Steps of the training behind it, in which it takes effect; 0: at once.
        seed: Of the recipe.
        trial: Whether only its configs are tried: nothing is found by data.
        folder: Where it can keep what it goes on with if it is killed; `None`: nowhere.
    """

    data: Dataset | None
    training: int
    seed: int
    trial: bool
    folder: pathlib.Path | None = None


def is_changing(step: Step) -> bool:
    """Return whether a step makes another model, or other weights, of what it gets."""
    return isinstance(step, Training | Equalize | Prune | Cluster | Quantize | Shrink)


def steps_after(recipe: Recipe, place: int, data: Dataset | None) -> int:
    """Return the steps of the training in which the step at a place takes effect; 0: there is none."""
    training = training_after(recipe.steps, place)
    if training is None or data is None:
        return 0
    return epochs_of(training, data) * steps_per_epoch(data, training.batch_size)


def trial(recipe: Recipe, model: keras.Model, data: Dataset | None) -> keras.Model:
    """Return what a recipe makes of a model without training and without calibration.

    Raises:
        ValueError: If a config doesn't fit a layer, a selector none, or the model can't have a file; the message says
            which step.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said when it is done
        for place, step in enumerate(recipe.steps):
            if isinstance(step, Training):
                continue
            how = Circumstances(data, steps_after(recipe, place, data), recipe.seed, trial=True)
            try:
                model = changed(step, model, how)
                if isinstance(step, Export):
                    _check_exports(step, model)
                    _check_report(step, recipe.steps)
            except (TypeError, ValueError) as error:
                raise type(error)(f"At steps[{place}], {step.called()!r}: {error}") from error
    return model


def _check_exports(step: Export, model: keras.Model) -> None:
    """Raise ValueError if a model can't have the files of a step: what `export` refuses without a look at values."""
    for name in step.files:
        if name.endswith(".keras"):
            continue
        kind = format_of(name)
        check_exports(model)
        check_bits(model, kind)
        check_inference_io(model, step.inference_io or "float32")
        machine = None if step.target is None else targets.get(step.target)
        if machine is not None:
            asked = Asked(AUTO, step.inference_io, step.precision, step.sparse, False, step.prefer)
            settled(machine, model, kind, asked, proves=True)
        if kind == "onnx" or machine is not None:  # as the step exports it
            check_coded(model, step.weights, kind, name, machine is not None and "tflm" in machine.runtimes)


def _check_report(step: Export, steps: Sequence[Step]) -> None:
    """Refuse an NPU that isn't there, and say how Vela is installed, where a report wants its estimates."""
    accelerator = None if step.target is None else targets.get(step.target).accelerator
    if accelerator is not None and any(isinstance(one, Report) for one in steps):
        check_npu(accelerator)


def before_training(recipe: Recipe, place: int, model: keras.Model) -> keras.Model:
    """Return the model that the training at a place gets: zeros without a mask have one, once the recipe prunes.

    Those are zeros that `shrink` has left, and others of layers that no `prune` names. Not where a later `prune` finds
    its own, which leaves layers with a mask alone; `cluster` and `quantize` keep what they find.
    """
    steps = recipe.steps
    if any(isinstance(one, Prune) for one in steps[place:]):
        return model
    shrunk = max((at for at in range(place) if isinstance(steps[at], Shrink)), default=None)
    since = steps[0 if shrunk is None else shrunk + 1 : place]
    prunes = shrunk is not None or any(isinstance(one, Prune) for one in since)
    if not prunes or any(isinstance(one, Cluster | Quantize) for one in since):
        return model
    return keep_zeros(model) if sparsity(model) else model


@singledispatch
def changed(step: Step, model: keras.Model, how: Circumstances) -> keras.Model:
    """Return what a step makes of a model, which is not changed; without training that is the same."""
    return model


@changed.register
def _(step: Equalize, model: keras.Model, how: Circumstances) -> keras.Model:
    return equalize(model)


@changed.register
def _(step: Prune, model: keras.Model, how: Circumstances) -> keras.Model:
    config = step.read(max(how.training, 1))
    if not how.training:
        config = _of_each(config, _at_once)
    pruned = prune(model, config, how.data and data_for(config, how.data), step.layers)
    if not how.training or all(isinstance(one.schedule, OneShot) and not one.schedule.step for one in step.configs()):
        update_masks(pruned)  # what comes before the training knows its zeros
    return pruned


@changed.register
def _(step: Cluster, model: keras.Model, how: Circumstances) -> keras.Model:
    return cluster(_keeping_zeros(model, how), step.read(how.training), layers=step.layers)


@changed.register
def _(step: Quantize, model: keras.Model, how: Circumstances) -> keras.Model:
    config = step.read(how.training)
    if how.training:
        config = _of_each(config, lambda one: _settling(one, how.training))
    kept = keep_values(_keeping_zeros(model, how), preserve_sparsity=True)
    if how.trial or how.data is None:
        return quantize(kept, config, None, step.layers)
    method = step.method and dataclasses.replace(step.method, folder=how.folder)
    return quantize(
        kept,
        config,
        how.data.train.drawn(step.calibration_samples, how.seed),
        step.layers,
        correct_bias=step.correct_bias,
        reestimate_batch_norm=step.reestimate_batch_norm,
        rounding=method or "nearest",
    )


@changed.register
def _(step: Shrink, model: keras.Model, how: Circumstances) -> keras.Model:
    return stripped(model) if how.trial else shrink(model)


def _of_each(config: Any, change: Callable[[Any], Any]) -> Any:
    """Return a config changed, or those of layers."""
    if isinstance(config, LayerConfigs):
        return LayerConfigs({key: one and change(one) for key, one in config.configs.items()})
    return change(config)


def _at_once(config: PruneConfig) -> PruneConfig:
    return dataclasses.replace(config, schedule=OneShot(config.schedule.final()))


def _settling(config: QuantizeConfig, steps: int) -> Any:
    own = config.freeze_ranges_step is not None or config.freeze_batch_norm_step is not None
    return config if own else settling(config, steps)


def _keeping_zeros(model: keras.Model, how: Circumstances) -> keras.Model:
    """Return a model whose zeros stay zeros in the training that follows; masks that it has are as they are."""
    return keep_zeros(model) if how.training and sparsity(model) else model
