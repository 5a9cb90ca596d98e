"""The main job as a recipe: train or take a model, prune it, train it quantized, ship it in both formats, compare."""

from __future__ import annotations

from typing import Any

from tfcompress.graph.config_map import LayerConfigs
from tfcompress.pipeline.pruning_configs import removes_units
from tfcompress.recipes.recipe import Recipe
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
    """Return the recipe of the main job.

    Args:
        trained: Whether there is a trained model; otherwise a small one is trained first.
        sparsity: Share of zeros in [0, 1).
        pruning: What each layer is pruned with, in place of `sparsity`; `None`: all alike. Channels and heads are taken
            out of the model.
        clustering: What each layer is clustered with behind the pruning, before it is quantized; `None`: nothing.
        quantization: What each layer is quantized with; `None`: all as "int8".
        epochs: Epochs of the first training, where there is no trained model; `None`: `enough_epochs`.
        finetune_epochs: Epochs in which the model is pruned, and again in which it is clustered; at least 1. `None`:
            `enough_epochs`.
        qat_epochs: Epochs in which the pruned model is trained quantized; 0: it is calibrated only.
        batch_size: Samples per training step.
        learning_rate: Of the first training; a model is pruned with half of it, and trained clustered, and quantized,
            with a tenth.
        layers: Which layers are pruned, by names or regular expressions; all are quantized.
        threads: Threads of one inference, for the latencies.
        seed: Of everything that is random.

    Raises:
        ValueError: If an argument is out of its range.

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
