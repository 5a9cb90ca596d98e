"""The main job: from a model and data to files and a report."""

from __future__ import annotations

import pathlib
from typing import Any

from absl.flags import FlagValues

from tfcompress.cli.data_flags import DATA, data_of, prepare
from tfcompress.cli.job import Job, Result
from tfcompress.cli.result import about, files_made
from tfcompress.cli.resume_flags import resume_of
from tfcompress.cli.wrong_use import UsageError, refuse_without_effect


def compress(values: FlagValues) -> Result:
    """Do the main job and print the table."""
    import tfcompress as tfc
    from tfcompress.cli.training_progress import stage_of
    from tfcompress.pipeline import compress_job
    from tfcompress.pipeline.compress_job import WRITTEN

    demo = not values.model and not values.data
    if values.model:
        refuse_without_effect(values, "with --model", "epochs")
    if values.model and not values.data:
        raise UsageError("Expected --data with --model: the model is trained while it is pruned.")
    prepare(values)
    model = tfc.load(values.model, unsafe=values.unsafe) if values.model else None
    data = data_of(values, model)
    name = values.name or (pathlib.Path(values.model).stem if values.model else data.name)
    folder = pathlib.Path(values.output_dir) / name
    if values.dry_run:
        return _plan(values, data, model, folder)
    resume = resume_of(values, folder)
    report = compress_job(
        data,
        folder,
        model=model,
        sparsity=values.sparsity,
        epochs=values.epochs,
        finetune_epochs=values.finetune_epochs,
        qat_epochs=values.qat_epochs,
        batch_size=values.batch_size,
        learning_rate=values.learning_rate,
        layers=values.layers,
        threads=values.threads,
        overwrite=values.overwrite or demo,
        stage=stage_of(values),
        resume=resume,
        about=about(values, "compress", data.name, name),
    )
    print(report.table(width=110))
    print(f"Written to {folder}; open {folder / 'report.html'} to look at it.")
    return {**report.to_dict(), "folder": str(folder), "files": files_made(folder / name for name in WRITTEN)}


def _plan(values: FlagValues, data: Any, model: Any, folder: pathlib.Path) -> Result:
    """Say what would be done, after a look at the model and at what lies in the folder."""
    import tfcompress as tfc
    from tfcompress.cli import dry_run
    from tfcompress.pipeline import check_fits, default_model
    from tfcompress.pipeline.compress_job import WRITTEN, check_folder

    check_folder(folder, values.overwrite or not (values.model or values.data))
    dense = default_model(data) if model is None else model
    check_fits(dense, data)
    pruned = tfc.prune(dense, values.sparsity, layers=values.layers)
    first = f"train {dense.name} for {values.epochs} epochs, " if model is None else f"take {dense.name}, "
    return dry_run.said(
        f"Would {first}prune it to {values.sparsity:.0%} in {values.finetune_epochs} epochs, train it quantized in "
        f"{values.qat_epochs}, and export and compare it, on {data.name}.",
        dry_run.of_layers(tfc.quantize(pruned, "int8")),
        [folder / name for name in WRITTEN],
    )


JOB = Job(
    does="Does the whole job: prunes a model, trains it quantized, ships it as TFLite and ONNX, compares all files.",
    example="--model=my.keras --data=my.npz --sparsity=0.8",
    more="Every file, in float32, float16 and int8, is compared with the Keras model before it gets its name; a table "
    "shows size, accuracy and latency. Without --model it trains a small model first; without --data it takes "
    "scikit-learn's digits. Everything is written to OUTPUT_DIR/NAME.",
    run=compress,
    flags=(
        *("model", *DATA, "output_dir", "name", "overwrite", "unsafe", "layers", "sparsity", "epochs"),
        *("finetune_epochs", "qat_epochs", "batch_size", "learning_rate", "seed", "threads", "dry_run"),
    ),
    defaults={"qat_epochs": 3},
)
