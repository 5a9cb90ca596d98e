"""The main job: from a model and data to files and a report, by the recipe of its flags or by one of a file."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli import within_budget
from tfcompress.cli.data_flags import DATA, data_of, prepare
from tfcompress.cli.job import Job, Result
from tfcompress.cli.pages import scans_of, table_width
from tfcompress.cli.result import about, files_made
from tfcompress.cli.wrong_use import refuse_without_effect

if TYPE_CHECKING:
    import keras

    from tfcompress.data.dataset import Dataset
    from tfcompress.evaluation.report import Report
    from tfcompress.graph.config_map import LayerConfigs
    from tfcompress.pipeline.checkpoints import Resume
    from tfcompress.recipes import Recipe

ADVICE = "Pass --overwrite, or another --name."
"""Where something is in the way."""

NAMES = "help"
"""Instead of a recipe: all names."""

_BY_RECIPE = (
    *("layers", "config", "sparsity", "epochs", "finetune_epochs", "qat_epochs", "batch_size", "learning_rate"),
    "threads",
)
"""Flags of which a recipe says for each step what they would."""


def compress(values: FlagValues, resume: Resume) -> Result:
    """Do the main job and print the table."""
    import tfcompress as tfc
    from tfcompress.cli.training_progress import stage_of
    from tfcompress.recipes import run
    from tfcompress.recipes.beginning import first_model, path_of
    from tfcompress.recipes.order import written_by
    from tfcompress.recipes.record import Record

    if values.recipe == NAMES:
        return _library()
    within_budget.check(values)
    demo = not values.model and not values.data and values.recipe is None
    _check(values)
    recipe = _read(values)
    if values.recipe is None:
        _configs(values, steps=100)  # before anything is loaded
    scans = scans_of(values)
    prepare(values)
    model = tfc.load(values.model, unsafe=values.unsafe) if values.model else None
    given = model if recipe is None or path_of(recipe) is None else first_model(recipe, model, None)
    data = data_of(values, given)
    name = values.name or (pathlib.Path(values.model).stem if values.model else data.name)
    folder = pathlib.Path(values.output_dir) / name
    if values.max_drop is not None:
        return within_budget.search(values, model, data, folder, recipe)
    recipe = _of_flags(values, data, trained=model is not None) if recipe is None else recipe
    written = written_by(recipe.steps)
    replaces = values.overwrite or demo or resume.begun
    if values.dry_run:
        record = Record(folder, recipe, model, data)
        record.open(resume.begun, replaces, ADVICE)
        return _plan(values, recipe, data, model, [folder / one for one in record.written()])
    made = run(
        recipe,
        model,
        data,
        folder=folder,
        stage=stage_of(values),
        resume=resume.begun,
        overwrite=replaces,
        advice=ADVICE,
        begin=resume.begin,
        about=about(values, "compress", data, name),
        scans=scans,
    )
    found: dict[str, Any] = {"recipe": recipe.to_dict(), "metrics": made.metrics}
    if made.report is None:
        for artifact in made.artifacts.values():
            print(artifact)
        print(f"Written to {folder}.")
    else:
        print(made.report.table(width=table_width()))
        print(made.report.verdict)
        for line in _advice(made.report, recipe) if values.recipe is None else ():
            print(line)
        print(f"Written to {folder}; open {folder / 'report.html'} to look at it.")
        found |= made.report.to_dict()
    return {**found, "folder": str(folder), "files": files_made(folder / one for one in written)}


def _check(values: FlagValues) -> None:
    """Raise UsageError if a flag that is given has no effect."""
    if values.recipe is not None:
        refuse_without_effect(values, "with --recipe, which says it for each step", *_BY_RECIPE)
    elif values.model:
        instead = " Pass --finetune_epochs for those of pruning, --qat_epochs for those of the quantized model."
        refuse_without_effect(values, "with --model", "epochs", instead=instead)


def _library() -> Result:
    """Say which recipes have a name, and when to use each."""
    import textwrap

    import tfcompress as tfc

    recipes = tfc.Recipe.library()
    wide = max(map(len, recipes)) + 2
    for name, recipe in recipes.items():
        text = textwrap.wrap(recipe.when, 96 - wide) or [""]
        print("\n".join([f"{name:<{wide}}{text[0]}", *(" " * wide + line for line in text[1:])]))
    return {"recipes": {name: recipe.to_dict() for name, recipe in recipes.items()}}


def _read(values: FlagValues) -> Recipe | None:
    """Return the recipe of --recipe; `None`: the flags say it."""
    import tfcompress as tfc

    if values.recipe is None:
        return None
    recipe = tfc.Recipe.read(values.recipe)
    return recipe.replace(seed=values.seed) if values["seed"].present else recipe


def _of_flags(values: FlagValues, data: Dataset, *, trained: bool) -> Recipe:
    """Return the recipe that the flags describe."""
    from tfcompress.pipeline.training import enough_epochs, steps_per_epoch
    from tfcompress.recipes.compress_job import recipe_of

    steps = steps_per_epoch(data, values.batch_size)
    finetune_epochs = values.finetune_epochs or enough_epochs(steps)
    configs = _configs(values, finetune_epochs * steps)
    return recipe_of(
        trained=trained,
        sparsity=values.sparsity,
        pruning=configs.get("prune"),
        clustering=configs.get("cluster"),
        quantization=configs.get("quantize"),
        epochs=values.epochs or enough_epochs(steps),
        finetune_epochs=finetune_epochs,
        qat_epochs=values.qat_epochs,
        batch_size=values.batch_size,
        learning_rate=values.learning_rate,
        layers=values.layers,
        threads=values.threads,
        seed=values.seed,
    )


def _advice(report: Report, recipe: Recipe) -> list[str]:
    """Return what to change where a stage made the model worse, by more than chance explains."""
    from tfcompress.evaluation.verdict import mark_of
    from tfcompress.recipes import Prune, Quantize
    from tfcompress.recipes.order import training_after

    def epochs(kind: type) -> int:
        place = next(place for place, step in enumerate(recipe.steps) if isinstance(step, kind))
        training = training_after(recipe.steps, place)
        return (training and training.epochs) or 0

    if "worse" in mark_of(report, "pruned.tflite").values():
        return [
            "Pruning made it worse, by more than chance explains: prune less with --sparsity, or longer with "
            f"--finetune_epochs={2 * epochs(Prune)}."
        ]
    if "worse" in mark_of(report, "pruned_int8.tflite").values():
        return [
            "Integers made it worse, by more than chance explains: train it longer with "
            f"--qat_epochs={2 * max(epochs(Quantize), 2)}, or leave layers float with --config; tfcompress sensitivity "
            "says which."
        ]
    return []


def _configs(values: FlagValues, steps: int) -> dict[str, LayerConfigs]:
    """Return what the file of --config says of pruning, clustering and quantization."""
    from tfcompress.recipes.config_file import sections
    from tfcompress.recipes.written_configs import read_cluster, read_prune, read_quantize

    if values.config is None:
        return {}
    reads = {
        "prune": lambda value: read_prune(value, steps),
        "cluster": read_cluster,
        "quantize": read_quantize,
    }
    found = sections(values.config, reads)
    if "prune" in found:
        refuse_without_effect(values, "with a --config that prunes, which says it for each layer", "sparsity")
    return found


def _plan(
    values: FlagValues, recipe: Recipe, data: Dataset, model: keras.Model | None, files: list[pathlib.Path]
) -> Result:
    """Say what would be done, after a look at the model."""
    from tfcompress.cli import dry_run
    from tfcompress.recipes.beginning import opened
    from tfcompress.recipes.transforms import trial

    _, dense = opened(recipe, model, data)
    made = trial(recipe, dense, data)
    for place, step in enumerate(recipe.steps, start=1):
        fields = step.to_dict()
        said = ", ".join(f"{name}: {one}" for name, one in fields.items() if name != "step")
        print(f"{place:>2}. {fields['step']:<9} {said}".rstrip())
    named = "by its flags" if values.recipe is None else f"by the recipe {recipe.name}"
    would = f"Would compress {dense.name} {named}, in these {len(recipe.steps)} steps, on {data.name}."
    return {**(dry_run.said(would, dry_run.of_layers(made), files) or {}), "recipe": recipe.to_dict()}


JOB = Job(
    does="Does the whole job: prunes a model, trains it quantized, ships it as TFLite and ONNX, compares all files.",
    example="--model=my.keras --data=my.npz --sparsity=0.8",
    more="Every file, in float32, float16 and int8, is compared with the Keras model before it gets its name; a table "
    "shows size, accuracy and latency. Without --model it trains a small model first; without --model and --data "
    "it takes scikit-learn's digits. Everything is written to OUTPUT_DIR/NAME. A file of --config has a section for "
    'each job, or one of them: {"prune": {"conv.*": 0.5}, "cluster": {".*": 16}, "quantize": {"logits": null, ".*": '
    '"int8"}}, each as that job takes it; layers that it doesn\'t name are left alone. With --recipe it does the steps '
    "of a file, or those that have a name, instead: --recipe=help says which there are, and --dry_run which steps.",
    run=compress,
    flags=(
        *("model", *DATA, "output_dir", "name", "scans", "overwrite", "unsafe", "whole_recipe", "layers", "config"),
        *("sparsity", "epochs", "finetune_epochs", "qat_epochs", "batch_size", "learning_rate", "threads", "dry_run"),
        *("max_drop", "minimize", "formats", "max_seconds", "target"),
    ),
    defaults={"qat_epochs": 3},
    # NAME may be that of the data, which isn't open yet.
    target=lambda values: str(
        pathlib.Path(values.output_dir) / (values.name or pathlib.Path(values.model or values.data or "digits").stem)
    ),
)
