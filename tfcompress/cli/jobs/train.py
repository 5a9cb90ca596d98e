"""Training of a small model, or of one that is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.data_flags import DATA, data_of, prepare
from tfcompress.cli.flags import MACHINE
from tfcompress.cli.job import Job, Result
from tfcompress.cli.output_paths import check_size, new_file
from tfcompress.cli.result import files_made
from tfcompress.cli.training_run import train_in_place
from tfcompress.cli.wrong_use import refuse_without_effect

if TYPE_CHECKING:
    from tfcompress.pipeline.checkpoints import Resume


def train(values: FlagValues, resume: Resume) -> Result:
    """Train a small model, or go on with one, and save it."""
    import tfcompress as tfc
    from tfcompress.cli import dry_run
    from tfcompress.cli.device_flags import devices_of, writes_files
    from tfcompress.graph import rebuild
    from tfcompress.pipeline import check_fits, default_model
    from tfcompress.pipeline.distribution import ONE
    from tfcompress.pipeline.losses import loss_for
    from tfcompress.pipeline.training import enough_epochs, steps_per_epoch
    from tfcompress.precision.policies import policy_name
    from tfcompress.recipes.config_file import layer_configs

    policy: Any = values.precision
    if values.config is not None:
        refuse_without_effect(values, "with --config, whose file says it for each layer", "precision")
        policy = layer_configs(values.config, policy_name)
    overwrite = values.overwrite or resume.begun  # what is there may be of this very job
    output = new_file(values.output, ".keras", overwrite, here=writes_files(values))
    prepare(values)
    devices = devices_of(values)
    given = tfc.load(values.model, unsafe=values.unsafe) if values.model else None
    data = data_of(values, given)
    model = given or default_model(data)
    check_fits(model, data)
    if writes_files(values):
        check_size(model, output)
    loss = loss_for(model, data)
    if policy != "float32":
        model = tfc.mixed_precision(model, policy)
    steps = steps_per_epoch(data, values.batch_size, devices)
    epochs = values.epochs or enough_epochs(steps)
    if values.dry_run:
        return dry_run.said(
            f"Would train {model.name} for {epochs} epochs of {steps} steps on {data.name}.",
            [{"layer": row.layer, "class": row.kind, "computes in": row.precision} for row in tfc.summary(model).rows],
            [output],
        )
    model = model if devices is ONE else rebuild(model)
    train_in_place("train", model, data, loss=loss, epochs=epochs, values=values, devices=devices, resume=resume)
    devices.leave()
    if not devices.writes:
        return None
    if policy != "float32":
        model = tfc.full_precision(model)
    resume.begin()
    tfc.save(model, output, overwrite=overwrite)
    metrics = tfc.evaluate(model, data.test.in_order(), class_names=data.class_names)
    print(metrics)
    print(f"Written to {output}.")
    return {"metrics": metrics.to_dict(), "files": files_made([output])}


JOB = Job(
    does="Trains a small model that fits the data, or goes on with one that is given, and saves it.",
    example="--data=my.npz --output=my.keras --epochs=20 --precision=auto",
    more="Without --model and --data it takes scikit-learn's digits. A config of --config is what a layer computes in: "
    '{"logits": "float32", ".*": "mixed_bfloat16"}.',
    run=train,
    flags=(
        *("model", *DATA, "output", "overwrite", "unsafe", "config", "epochs", "batch_size", "learning_rate"),
        *("training_precision", "dry_run", *MACHINE),
    ),
    required=("output",),
    target=lambda values: values.output,
)
