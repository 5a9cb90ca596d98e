"""The main job: train or take a model, prune it, train it quantized, ship all that in both formats, compare."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfcompress.data.dataset import Dataset
from tfcompress.evaluation import Report as Comparison
from tfcompress.evaluation.page.assemble import Scan
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.pipeline.checkpoints import Resume
from tfcompress.pipeline.pruning_configs import removes_units
from tfcompress.pipeline.stages import Stage, silent
from tfcompress.recipes.order import written_by
from tfcompress.recipes.recipe import Recipe
from tfcompress.recipes.runner import run
from tfcompress.recipes.steps import Cluster, Export, Finetune, Prune, Quantize, Report, Shrink, Step

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


def check_folder(
    folder: pathlib.Path,
    written: Sequence[str],
    overwrite: bool,
    advice: str = "Pass overwrite=True, or name another.",
) -> None:
    """Raise FileExistsError, with an advice, if what a recipe writes is there already and isn't to be replaced."""
    there = [name for name in written if (folder / name).exists()]
    if there and not overwrite:
        raise FileExistsError(f"Expected a folder without {', '.join(there)}. Received: {folder}. {advice}")


def recipe_of(
    *,
    trained: bool,
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
    seed: int = 0,
) -> Recipe:
    """Return the recipe of the main job; the arguments are those of `compress_job`.

    Args:
        trained: Whether there is a trained model; otherwise a small one is trained first.
        sparsity: See `compress_job`, as all others.

    Example:

    >>> [step.called() for step in recipe_of(trained=True, qat_epochs=0).steps]
    ['export', 'prune', 'finetune', 'export', 'export', 'quantize', 'export', 'report']
    """

    def training(count: int | None, share: float) -> Finetune:
        return Finetune(epochs=count, batch_size=batch_size, learning_rate=learning_rate * share)

    def files(name: str, precision: str = "float32") -> list[Step]:
        models = [one for one in MODELS if one == f"{name}.keras" and precision == "float32"]
        made = [*models, *(file for file, what in FILES.items() if what == (name, precision))]
        return [Export(files=tuple(made), precision=precision)] if made else []

    prune = Prune(config=pruning or sparsity, layers=layers)
    steps: list[Step] = [] if trained else [training(epochs, 1)]
    steps += [*files("dense"), prune, training(finetune_epochs, 0.5)]
    steps += [Shrink()] if removes_units(prune.read(1)) else []
    steps += [*files("pruned"), *files("pruned", "float16")]
    if clustering:
        steps += [Cluster(config=clustering), training(finetune_epochs, 0.1)]
    steps.append(Quantize(config=quantization or "int8"))
    steps += [training(qat_epochs, 0.1)] if qat_epochs else []
    steps += [*files("quantized"), Report(baseline="dense.tflite", threads=threads)]
    return Recipe(
        steps=tuple(steps),
        name="compress",
        when="Where a small and fast file is wanted, and training is possible: what the job compress does.",
        seed=seed,
    )


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
    seed: int = 0,
    overwrite: bool = False,
    stage: Stage = silent,
    resume: Resume | None = None,
    about: Mapping[str, Any] | None = None,
    scans: Sequence[Scan] = (),
) -> Comparison:
    """Do the main job, as a recipe, and write everything into a folder.

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
        layers: Which layers are pruned, by names or regular expressions; all are quantized.
        threads: Threads of one inference, for the latencies.
        seed: Of everything that is random.
        overwrite: Whether files that are there are replaced.
        stage: `with stage(text, epochs) as callbacks:` surrounds each part; for a progress bar.
        resume: Given so that this job goes on where it was killed; files that it had written are replaced. Whoever
            gives it ends it, by `resume.done()`.
        about: What else the report says, as in `tfcompress.compare`; the recipe is added.
        scans: What scans found, to be shown in the report, as in `tfcompress.compare`.

    Returns:
        The report: the dense model and the files beside each other.

    Raises:
        FileExistsError: If a file is there and `overwrite` is false.
        ValueError: If the model, the data or an argument doesn't fit.
    """
    folder = pathlib.Path(output_dir)
    begun = bool(resume and resume.begun)
    recipe = recipe_of(
        trained=model is not None,
        sparsity=sparsity,
        pruning=pruning,
        clustering=clustering,
        quantization=quantization,
        epochs=epochs,
        finetune_epochs=finetune_epochs,
        qat_epochs=qat_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        layers=layers,
        threads=threads,
        seed=seed,
    )
    check_folder(folder, written_by(recipe.steps), overwrite or begun)
    made = run(
        recipe,
        model,
        data,
        folder=folder,
        stage=stage,
        resume=begun,
        overwrite=overwrite or begun,
        begin=resume.begin if resume else None,
        about=about,
        scans=scans,
    )
    assert made.report is not None
    return made.report
