"""Clustering a model, trained so or not, and the files of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.data_flags import DATA
from tfcompress.cli.flags import MACHINE
from tfcompress.cli.job import Job, Result
from tfcompress.cli.result import files_made
from tfcompress.cli.training_run import fine_tuning, train_in_place

if TYPE_CHECKING:
    from tfcompress.pipeline.checkpoints import Resume


def cluster(values: FlagValues, resume: Resume) -> Result:
    """Cluster a model, train it so, strip it, and save it."""
    import tfcompress as tfc
    from tfcompress.cli import dry_run
    from tfcompress.cli.cluster_flags import config_of
    from tfcompress.pipeline.losses import loss_for
    from tfcompress.pipeline.training import enough_epochs, steps_per_epoch

    config = config_of(values)
    output, overwrite, devices, model, data = fine_tuning(values, resume)
    clustered = tfc.cluster(model, config, layers=values.layers)
    stage_name = "cluster" if values.config else f"cluster to {values.number_of_clusters} values"
    steps = steps_per_epoch(data, values.batch_size, devices)
    epochs = values.finetune_epochs or enough_epochs(steps)
    if values.dry_run:
        return dry_run.said(
            f"Would {stage_name} {model.name} and train it for {epochs} epochs of {steps} steps on {data.name}.",
            dry_run.of_layers(clustered),
            [output],
        )
    loss = loss_for(model, data)
    how: dict[str, Any] = {"values": values, "devices": devices, "resume": resume}
    train_in_place(f"{stage_name} and fine-tune", clustered, data, loss=loss, epochs=epochs, **how)
    devices.leave()
    if not devices.writes:
        return None
    final = tfc.strip(clustered)
    resume.begin()
    tfc.save(final, output, overwrite=overwrite)
    print(tfc.summary(final))
    metrics = tfc.evaluate(final, data.test.in_order(), class_names=data.class_names)
    print(metrics)
    print(f"Written to {output}.")
    distinct = {f"{row.layer}/{row.weight}": row.distinct for row in tfc.summary(final).rows if row.weight}
    return {"distinct": distinct, "metrics": metrics.to_dict(), "files": files_made([output])}


JOB = Job(
    does="Clusters a model while it is trained, and saves it without the wrappers: a plain Keras model whose kernels "
    "have few different values each.",
    example="--model=my.keras --data=my.npz --number_of_clusters=16 --output=clustered.keras",
    more="Zeros of a pruned model stay zeros. What train made of scikit-learn's digits needs no --data. Quantize "
    "the file then with the job quantize: the values stay as few. A config of --config is a number of clusters, or "
    'what flags say by their names: {"conv.*": 16, ".*": {"number_of_clusters": 32, "init": "density"}}.',
    run=cluster,
    flags=(
        *("model", *DATA, "output", "overwrite", "unsafe", "layers", "config", "number_of_clusters", "init"),
        *("codebook", "table_granularity", "zero_cluster", "finetune_epochs", "batch_size", "learning_rate"),
        *("dry_run", *MACHINE),
    ),
    required=("model", "output"),
    target=lambda values: str(values.output),
    defaults={"learning_rate": 2e-4},
)
