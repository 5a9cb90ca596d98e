"""The main job: from a model and data to files and a report."""

from __future__ import annotations

import pathlib

from absl.flags import FlagValues

from tfcompress.cli.app import UsageError, refuse_without_effect
from tfcompress.cli.data_flags import data_of
from tfcompress.cli.resume_flags import resume_of
from tfcompress.cli.training_progress import stage


def compress(values: FlagValues) -> None:
    """Do the main job and print the table."""
    import tfcompress as tfc
    from tfcompress.pipeline import compress_job

    demo = not values.model and not values.data
    if values.model:
        refuse_without_effect(values, "with --model", "epochs")
    if values.model and not values.data:
        raise UsageError("Expected --data with --model: the model is trained while it is pruned.")
    data = data_of(values)
    model = tfc.load(values.model, unsafe=values.unsafe) if values.model else None
    name = values.name or (pathlib.Path(values.model).stem if values.model else data.name)
    folder = pathlib.Path(values.output_dir) / name
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
        stage=stage,
        resume=resume,
    )
    print(report.table(width=110))
    print(f"Written to {folder}; open {folder / 'report.html'} to look at it.")
