"""The main job: train or take a model, prune it, train it quantized, ship all that in both formats, compare."""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras

from tfcompress.clustering import cluster
from tfcompress.core.atomic_files import check_room, check_target, save
from tfcompress.data.dataset import Dataset
from tfcompress.evaluation import Report, compare
from tfcompress.evaluation.open_predictor import Saved
from tfcompress.evaluation.page.assemble import Scan
from tfcompress.export import export
from tfcompress.graph import rebuild, strip
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.pipeline.checkpoints import Resume
from tfcompress.pipeline.pruning_configs import data_for, removes_units, rising_schedule
from tfcompress.pipeline.quantize_aware_training import CALIBRATION_SAMPLES, settling
from tfcompress.pipeline.training import check_fits, default_model, enough_epochs, fit, loss_for, steps_per_epoch
from tfcompress.pruning import PruneConfig, keep_zeros, prune, shrink
from tfcompress.quantization.quantize import quantize
from tfcompress.quantization.quantize_config import QuantizeConfig

Stage = Callable[..., contextlib.AbstractContextManager[Sequence[keras.callbacks.Callback]]]

MODELS = ("dense.keras", "pruned.keras", "quantized.keras")
FILES = {
    "dense.tflite": ("dense", "float32"),
    "pruned.tflite": ("pruned", "float32"),
    "pruned_fp16.tflite": ("pruned", "float16"),
    "pruned_int8.tflite": ("quantized", "float32"),
    "pruned.onnx": ("pruned", "float32"),
    "pruned_fp16.onnx": ("pruned", "float16"),
    "pruned_int8.onnx": ("quantized", "float32"),
}
"""What the job ships, of which model and with which precision (of what isn't quantized); `dense.tflite` is there to
be compared with."""

WRITTEN = (*MODELS, *FILES, "report.json", "report.md", "report.html")
"""All that the job writes."""


@contextlib.contextmanager
def silent(text: str, epochs: int = 0) -> Any:
    """Show nothing: a stage without a progress bar."""
    yield ()


def _prepare(written: Sequence[pathlib.Path], model: keras.Model) -> None:
    """Make the folder; raise OSError unless all files can be written there."""
    folder = written[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    for path in written:
        check_target(path, path.suffix, overwrite=True)
    # Together they hold the weights about twelve times, each with the state of Adam or in fewer bits.
    check_room(folder / "all", 12 * 4 * sum(math.prod(weight.shape) for weight in model.weights))


def _beginning(model: keras.Model | None, data: Dataset) -> tuple[keras.Model, Any]:
    """Return what the job begins with: a copy of the model, or a new one, and the loss."""
    if model is None:
        dense = default_model(data)
        return dense, loss_for(dense, data)
    dense = rebuild(model)
    check_fits(dense, data)
    dense.compiled = False
    return dense, loss_for(model if model.compiled else dense, data)


def _shown(config: PruneConfig | LayerConfigs) -> str:
    """Return what is said of a pruning in a report: of that of all layers alike its schedule."""
    return repr(config.schedule if isinstance(config, PruneConfig) else config)


def _trained_with(recipe: QuantizeConfig | LayerConfigs, steps: int) -> QuantizeConfig | LayerConfigs:
    """Return a config whose ranges settle in that many steps of training; without any it stays as it is."""
    return settling(recipe, steps) if steps else recipe


def check_folder(folder: pathlib.Path, overwrite: bool, advice: str = "Pass overwrite=True, or name another.") -> None:
    """Raise FileExistsError, with an advice, if what the job writes is there already and isn't to be replaced."""
    there = [name for name in WRITTEN if (folder / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"Expected a folder without {', '.join(there)}. Received: {folder}. {advice}")


def compress_job(
    data: Dataset,
    output_dir: str | os.PathLike[str],
    *,
    model: keras.Model | None = None,
    sparsity: float = 0.8,
    pruning: LayerConfigs | None = None,
    clustering: LayerConfigs | None = None,
    quantization: LayerConfigs | None = None,
    epochs: int | None = None,
    finetune_epochs: int | None = None,
    qat_epochs: int = 3,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    layers: Any = None,
    threads: int = 1,
    overwrite: bool = False,
    stage: Stage = silent,
    resume: Resume | None = None,
    about: Mapping[str, Any] | None = None,
    scans: Sequence[Scan] = (),
) -> Report:
    """Do the main job and write everything into a folder.

    Args:
        data: What to train with and to evaluate on.
        output_dir: Where the files go; made if it isn't there.
        model: A trained model with one input and one output; `None` trains a small one first.
        sparsity: Share of zeros in [0, 1).
        pruning: What each layer is pruned with, in place of `sparsity`; `None`: all alike. Channels and heads are taken
            out of the model.
        clustering: What each layer is clustered with behind the pruning, before it is quantized; `None`: nothing.
        quantization: What each layer is quantized with; `None`: all as "int8".
        epochs: Epochs of the first training, where `model` is `None`; `None`: `enough_epochs`.
        finetune_epochs: Epochs in which the model is pruned, and again in which it is clustered; at least 1. `None`:
            `enough_epochs`.
        qat_epochs: Epochs in which the pruned model is trained quantized; 0: it is calibrated only.
        batch_size: Samples per training step.
        learning_rate: Of the first training; a model is pruned with half of it, and trained clustered, and quantized,
            with a tenth.
        layers: Which layers are pruned, as in `tfcompress.prune`; all are quantized.
        threads: Threads of one inference, for the latencies.
        overwrite: Whether files that are there are replaced.
        stage: `with stage(text, epochs) as callbacks:` surrounds each part; for a progress bar.
        resume: Where trainings are backed up, so that this job goes on where it was killed; files that it had written
            are replaced. Whoever gives it ends it, by `resume.done()`.
        about: What else the report says, as in `tfcompress.compare`; the recipe is added.
        scans: What scans found, to be shown in the report, as in `tfcompress.compare`.

    Returns:
        The report: the dense model and the files beside each other.

    Raises:
        FileExistsError: If a file is there and `overwrite` is false.
        ValueError: If the model, the data or an argument doesn't fit.
    """
    folder = pathlib.Path(output_dir)
    check_folder(folder, overwrite or bool(resume and resume.begun))
    least_one = (batch_size, finetune_epochs, epochs if model is None else None)
    if qat_epochs < 0 or any(count is not None and count < 1 for count in least_one):
        raise ValueError(
            "Expected at least 1 epoch (0 of qat_epochs) and 1 sample per batch. Received: epochs="
            f"{epochs}, finetune_epochs={finetune_epochs}, qat_epochs={qat_epochs}, batch_size={batch_size}."
        )
    batches = steps_per_epoch(data, batch_size)
    epochs, finetune_epochs = (count or enough_epochs(batches) for count in (epochs, finetune_epochs))
    config = pruning or PruneConfig(rising_schedule(sparsity, finetune_epochs * batches))
    recipe = _trained_with(quantization or QuantizeConfig.get("int8"), qat_epochs * batches)
    dense, loss = _beginning(model, data)

    def train(name: str, text: str, given: keras.Model, count: int, rate: float) -> None:
        with stage(text, count) as callbacks:
            backup = resume.backup(name) if resume else None
            how: dict[str, Any] = {"batch_size": batch_size, "learning_rate": rate, "callbacks": callbacks}
            fit(given, data, loss, epochs=count, backup=backup, **how)

    start = partial(prune, config=config, layers=layers, data=data_for(config, data))
    pruned = start(dense)  # which says what is wrong before anything is done
    if clustering:
        cluster(dense, clustering)
    _prepare([folder / name for name in WRITTEN], dense)
    if resume:
        resume.begin()
    if model is None:
        train("dense", "train", dense, epochs, learning_rate)
        pruned = start(dense)
    save(dense, folder / "dense.keras", overwrite=True)
    goal = f"prune{'' if pruning else f' to {sparsity:.0%}'} and fine-tune"
    train("pruned", goal, pruned, finetune_epochs, learning_rate / 2)
    fewer = removes_units(config)
    final = shrink(pruned) if fewer else strip(pruned)
    save(final, folder / "pruned.keras", overwrite=True)
    # Masks keep the zeros in training: those of the pruning, or new ones where it made fewer channels.
    masked = keep_zeros(final) if fewer else pruned
    if clustering:
        masked = cluster(masked, clustering)
        train("clustered", "cluster and fine-tune", masked, finetune_epochs, learning_rate / 10)
    with stage("quantize" if quantization else "quantize to int8"):
        quantized = quantize(masked, recipe, data=data.train.drawn(CALIBRATION_SAMPLES))
    if qat_epochs:
        train("quantized", "train quantized", quantized, qat_epochs, learning_rate / 10)
    save(quantized, folder / "quantized.keras", overwrite=True)
    models = {"dense": dense, "pruned": final, "quantized": quantized}
    artifacts = {}
    for name, (source, precision) in FILES.items():
        with stage(f"export {name}"):
            artifacts[name] = export(models[source], folder / name, precision=precision, overwrite=True)
    saved = {name: Saved(each, folder / name) for name, each in zip(MODELS, models.values(), strict=True)}
    report = compare(
        {**saved, **artifacts},
        data.test.in_order(),
        baseline="dense.tflite",
        threads=threads,
        class_names=data.class_names,
        about={
            **{"model": dense.name, "data": data.name, "division": data.division(), **(about or {})},
            "recipe": ", then ".join([_shown(config), *([repr(clustering)] if clustering else []), repr(recipe)]),
        },
        scans=scans,
    )
    report.to_json(folder / "report.json", overwrite=True)
    report.to_markdown(folder / "report.md", overwrite=True)
    report.save(folder / "report.html", overwrite=True)
    return report
