"""Pruning while a model is trained, to one sparsity or to several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.data_flags import DATA, data_of, prepare
from tfcompress.cli.flags import MACHINE
from tfcompress.cli.job import Job, Result
from tfcompress.cli.output_paths import new_file
from tfcompress.cli.pages import table_width
from tfcompress.cli.result import about, files_made
from tfcompress.cli.training_run import fine_tuning, train_in_place
from tfcompress.cli.wrong_use import UsageError

if TYPE_CHECKING:
    from tfcompress.pipeline.checkpoints import Resume


def prune(values: FlagValues, resume: Resume) -> Result:
    """Prune a model while it is trained, strip it, and save it; or compare several sparsities."""
    import tfcompress as tfc
    from tfcompress.cli import dry_run
    from tfcompress.cli.prune_flags import check, config_of
    from tfcompress.pipeline.losses import loss_for
    from tfcompress.pipeline.pruning_configs import data_for, removes_units
    from tfcompress.pipeline.training import enough_epochs, steps_per_epoch

    if values.sweep:
        return _sweep(values, resume)
    check(values)
    output, overwrite, devices, model, data = fine_tuning(values, resume)
    steps = steps_per_epoch(data, values.batch_size, devices)
    epochs = values.finetune_epochs or enough_epochs(steps)
    config = config_of(values, values.sparsity, epochs * steps)
    pruned = tfc.prune(model, config, layers=values.layers, data=data_for(config, data))
    stage_name = "prune and fine-tune" if values.config else f"prune to {values.sparsity:.0%} and fine-tune"
    if values.dry_run:
        return dry_run.said(
            f"Would {stage_name} {model.name} for {epochs} epochs of {steps} "
            f"steps on {data.name}{', and take pruned units out' if removes_units(config) and values.shrink else ''}.",
            dry_run.of_layers(pruned),
            [output],
        )
    loss = loss_for(model, data)
    how: dict[str, Any] = {"values": values, "devices": devices, "resume": resume}
    train_in_place(stage_name, pruned, data, loss=loss, epochs=epochs, **how)
    devices.leave()
    if not devices.writes:
        return None
    whole_units = removes_units(config) and values.shrink
    final = tfc.shrink(pruned) if whole_units else tfc.strip(pruned)
    resume.begin()
    tfc.save(final, output, overwrite=overwrite)
    if whole_units:
        print(tfc.shrink_report(pruned))
    print(tfc.summary(final))
    metrics = tfc.evaluate(final, data.test.in_order(), class_names=data.class_names)
    print(metrics)
    print(f"Written to {output}.")
    return {"sparsity": tfc.sparsity(final), "metrics": metrics.to_dict(), "files": files_made([output])}


def _sweep(values: FlagValues, resume: Resume) -> Result:
    """Prune a model to several sparsities, print and write what each does to training and test data."""
    import tfcompress as tfc
    from tfcompress.cli import dry_run
    from tfcompress.cli.training_progress import stage_of
    from tfcompress.pipeline import check_fits
    from tfcompress.pipeline.training import enough_epochs, steps_per_epoch

    if values["sparsity"].present:
        raise UsageError("Expected one of --sparsity and --sweep. Received: both.")
    if values.distribution != "none":
        raise UsageError(f"Expected --sweep on one device. Received: --distribution={values.distribution} too.")
    other = [name for name in ("criterion", "granularity", "threshold", "shrink", "config") if values[name].present]
    if other:
        raise UsageError(f"Expected --sweep with single weights ranked by their size. Received: --{other[0]} too.")
    overwrite = values.overwrite or resume.begun
    output = new_file(values.output, ".json", overwrite)
    picture, page = (new_file(str(output.with_suffix(each)), each, overwrite) for each in (".png", ".html"))
    prepare(values)
    model = tfc.load(values.model, unsafe=values.unsafe)
    data = data_of(values, model)
    check_fits(model, data)
    epochs = values.finetune_epochs or enough_epochs(steps_per_epoch(data, values.batch_size))
    if values.dry_run:
        return dry_run.said(
            f"Would prune {model.name} to each of {', '.join(values.sweep)} in {epochs} epochs, and "
            "train it as long without pruning.",
            files=[output, picture, page],
        )
    result = tfc.sweep(
        model,
        [float(value) for value in values.sweep],
        data,
        epochs=epochs,
        batch_size=values.batch_size,
        learning_rate=values.learning_rate,
        layers=values.layers,
        scope=values.scope,
        seed=values.seed,
        stage=stage_of(values),
        resume=resume,
    )
    resume.begin()
    result.to_json(output, overwrite=overwrite)
    result.plot(picture, overwrite=overwrite)
    result.save(page, about=about(values, "prune", data, model.name), overwrite=overwrite)
    print(result.table(width=table_width()))
    print(f"Written to {output}, {picture} and {page}.")
    return {**result.to_dict(), "files": files_made([output, picture, page])}


JOB = Job(
    does="Prunes a model while it is trained, and saves it without the wrappers: a plain Keras model with zeros in it.",
    example="--model=my.keras --data=my.npz --sparsity=0.8 --output=pruned.keras",
    more="Whole channels (--granularity=channel) are taken out: the model is smaller and faster. What train "
    "made of scikit-learn's digits needs no --data. With --sweep=0.5,0.8,0.9 --output=sweep.json it does so for each "
    "of these sparsities and compares them on training and test data, in a table, a picture and the .json file. A "
    "config of --config is a sparsity, or what flags say by their names: "
    '{"conv.*": 0.5, ".*": {"sparsity": 0.8, "criterion": "l2"}}.',
    run=prune,
    flags=(
        *(
            "model",
            *DATA,
            "output",
            "overwrite",
            "unsafe",
            "layers",
            "config",
            "sparsity",
            "sweep",
            "scope",
            "criterion",
        ),
        *(
            "granularity",
            "threshold",
            "shrink",
            "finetune_epochs",
            "batch_size",
            "learning_rate",
            "dry_run",
            *MACHINE,
        ),
    ),
    required=("model", "output"),
    target=lambda values: values.output,
)
