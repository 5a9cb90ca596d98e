"""The main job: from a model and data to files and a report."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.data_flags import DATA, data_of, prepare
from tfcompress.cli.job import Job, Result
from tfcompress.cli.pages import scans_of, table_width
from tfcompress.cli.result import about, files_made
from tfcompress.cli.wrong_use import refuse_without_effect

if TYPE_CHECKING:
    from tfcompress.evaluation.report import Report
    from tfcompress.graph.config_map import LayerConfigs
    from tfcompress.pipeline.checkpoints import Resume


def compress(values: FlagValues, resume: Resume) -> Result:
    """Do the main job and print the table."""
    import tfcompress as tfc
    from tfcompress.cli.training_progress import stage_of
    from tfcompress.pipeline import compress_job
    from tfcompress.pipeline.compress_job import WRITTEN, check_folder
    from tfcompress.pipeline.training import enough_epochs, steps_per_epoch

    demo = not values.model and not values.data
    if values.model:
        instead = " Pass --finetune_epochs for those of pruning, --qat_epochs for those of the quantized model."
        refuse_without_effect(values, "with --model", "epochs", instead=instead)
    _configs(values, steps=100)  # before anything is loaded
    scans = scans_of(values)
    prepare(values)
    model = tfc.load(values.model, unsafe=values.unsafe) if values.model else None
    data = data_of(values, model)
    name = values.name or (pathlib.Path(values.model).stem if values.model else data.name)
    folder = pathlib.Path(values.output_dir) / name
    steps = steps_per_epoch(data, values.batch_size)
    enough = enough_epochs(steps)
    epochs, finetune_epochs = values.epochs or enough, values.finetune_epochs or enough
    configs = _configs(values, finetune_epochs * steps)
    check_folder(folder, values.overwrite or demo or resume.begun, "Pass --overwrite, or another --name.")
    if values.dry_run:
        return _plan(values, data, model, folder, configs, epochs=epochs, finetune_epochs=finetune_epochs)
    report = compress_job(
        data,
        folder,
        model=model,
        sparsity=values.sparsity,
        pruning=configs.get("prune"),
        clustering=configs.get("cluster"),
        quantization=configs.get("quantize"),
        epochs=epochs,
        finetune_epochs=finetune_epochs,
        qat_epochs=values.qat_epochs,
        batch_size=values.batch_size,
        learning_rate=values.learning_rate,
        layers=values.layers,
        threads=values.threads,
        overwrite=values.overwrite or demo,
        stage=stage_of(values),
        resume=resume,
        about=about(values, "compress", data, name),
        scans=scans,
    )
    print(report.table(width=table_width()))
    print(report.verdict)
    for line in _advice(report, values.qat_epochs, finetune_epochs):
        print(line)
    print(f"Written to {folder}; open {folder / 'report.html'} to look at it.")
    return {**report.to_dict(), "folder": str(folder), "files": files_made(folder / name for name in WRITTEN)}


def _advice(report: Report, qat_epochs: int, finetune_epochs: int) -> list[str]:
    """Return what to change where a stage made the model worse, by more than chance explains."""
    from tfcompress.evaluation.verdict import mark_of

    if "worse" in mark_of(report, "pruned.tflite").values():
        return [
            "Pruning made it worse, by more than chance explains: prune less with --sparsity, or longer with "
            f"--finetune_epochs={2 * finetune_epochs}."
        ]
    if "worse" in mark_of(report, "pruned_int8.tflite").values():
        return [
            "Integers made it worse, by more than chance explains: train it longer with "
            f"--qat_epochs={2 * max(qat_epochs, 2)}, or leave layers float with --config; tfcompress sensitivity says "
            "which."
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
    values: FlagValues,
    data: Any,
    model: Any,
    folder: pathlib.Path,
    configs: Mapping[str, LayerConfigs],
    *,
    epochs: int,
    finetune_epochs: int,
) -> Result:
    """Say what would be done, after a look at the model."""
    import tfcompress as tfc
    from tfcompress.cli import dry_run
    from tfcompress.pipeline import check_fits, default_model
    from tfcompress.pipeline.compress_job import WRITTEN

    dense = default_model(data) if model is None else model
    check_fits(dense, data)
    pruned = tfc.prune(dense, configs.get("prune", values.sparsity), layers=values.layers)
    if "cluster" in configs:
        pruned = tfc.cluster(pruned, configs["cluster"])
    goal = "as --config says" if "prune" in configs else f"to {values.sparsity:.0%}"
    first = f"train {dense.name} for {epochs} epochs, " if model is None else f"take {dense.name}, "
    second = "cluster it in as many, " if "cluster" in configs else ""
    return dry_run.said(
        f"Would {first}prune it {goal} in {finetune_epochs} epochs, {second}train it quantized in "
        f"{values.qat_epochs}, and export and compare it, on {data.name}.",
        dry_run.of_layers(tfc.quantize(pruned, configs.get("quantize", "int8"))),
        [folder / name for name in WRITTEN],
    )


JOB = Job(
    does="Does the whole job: prunes a model, trains it quantized, ships it as TFLite and ONNX, compares all files.",
    example="--model=my.keras --data=my.npz --sparsity=0.8",
    more="Every file, in float32, float16 and int8, is compared with the Keras model before it gets its name; a table "
    "shows size, accuracy and latency. Without --model it trains a small model first; without --model and --data "
    "it takes scikit-learn's digits. Everything is written to OUTPUT_DIR/NAME. A file of --config has a section for "
    'each job, or one of them: {"prune": {"conv.*": 0.5}, "cluster": {".*": 16}, "quantize": {"logits": null, ".*": '
    '"int8"}}, each as that job takes it; layers that it doesn\'t name are left alone.',
    run=compress,
    flags=(
        *("model", *DATA, "output_dir", "name", "scans", "overwrite", "unsafe", "layers", "config", "sparsity"),
        *("epochs", "finetune_epochs", "qat_epochs", "batch_size", "learning_rate", "threads", "dry_run"),
    ),
    defaults={"qat_epochs": 3},
    # NAME may be that of the data, which isn't open yet.
    target=lambda values: str(
        pathlib.Path(values.output_dir) / (values.name or pathlib.Path(values.model or values.data or "digits").stem)
    ),
)
