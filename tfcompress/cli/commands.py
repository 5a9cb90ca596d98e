"""What each program in `scripts/` does with its flags."""

from __future__ import annotations

import pathlib
from typing import Any

from absl.flags import FlagValues

from tfcompress.cli.app import UsageError, refuse_without_effect
from tfcompress.cli.output_paths import check_size, new_file
from tfcompress.cli.resume_flags import resume_of
from tfcompress.cli.training_progress import stage
from tfcompress.pipeline.checkpoints import Resume


def compress(values: FlagValues) -> None:
    """Do the main job and print the table."""
    import tfcompress as tfc
    from tfcompress.pipeline import compress_job

    demo = not values.model and not values.data
    if values.model:
        refuse_without_effect(values, "with --model", "epochs")
    if values.model and not values.data:
        raise UsageError("Expected --data with --model: the model is trained while it is pruned.")
    data = _data(values)
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


def train(values: FlagValues) -> None:
    """Train a small model, or go on with one, and save it."""
    import tfcompress as tfc
    from tfcompress.cli.device_flags import devices_of, writes_files
    from tfcompress.graph import rebuild
    from tfcompress.pipeline import check_fits, default_model
    from tfcompress.pipeline.distribution import ONE
    from tfcompress.pipeline.training import loss_for

    resume = resume_of(values, values.output)
    overwrite = values.overwrite or resume.begun  # what is there may be of this very job
    output = new_file(values.output, ".keras", overwrite, here=writes_files(values))
    data = _data(values)
    devices = devices_of(values)
    model = tfc.load(values.model, unsafe=values.unsafe) if values.model else default_model(data)
    check_fits(model, data)
    if writes_files(values):
        check_size(model, output)
    loss = loss_for(model, data)
    if values.precision != "float32":
        model = tfc.mixed_precision(model, values.precision)
    model = model if devices is ONE else rebuild(model)
    _fit("train", model, data, loss=loss, epochs=values.epochs, values=values, devices=devices, resume=resume)
    devices.leave()
    if not devices.writes:
        return
    if values.precision != "float32":
        model = tfc.full_precision(model)
    tfc.save(model, output, overwrite=overwrite)
    print(tfc.evaluate(model, data.x_test, data.y_test))
    print(f"Written to {output}.")
    resume.done()


def prune(values: FlagValues) -> None:
    """Prune a model while it is trained, strip it, and save it; or compare several sparsities."""
    import tfcompress as tfc
    from tfcompress.cli.device_flags import devices_of, writes_files
    from tfcompress.cli.prune_flags import check, config_of, data_for
    from tfcompress.pipeline import check_fits
    from tfcompress.pipeline.training import loss_for, steps_per_epoch
    from tfcompress.pruning.granularity import STRUCTURES

    if values.sweep:
        return _sweep(values)
    check(values)
    resume = resume_of(values, values.output)
    overwrite = values.overwrite or resume.begun  # what is there may be of this very job
    output = new_file(values.output, ".keras", overwrite, here=writes_files(values))
    data = _data(values)
    devices = devices_of(values)
    model = tfc.load(values.model, unsafe=values.unsafe)
    check_fits(model, data)
    if writes_files(values):
        check_size(model, output)
    steps = values.finetune_epochs * steps_per_epoch(data, values.batch_size, devices)
    config = config_of(values, values.sparsity, steps)
    pruned = tfc.prune(model, config, layers=values.layers, data=data_for(config, data))
    stage_name = f"prune to {values.sparsity:.0%} and fine-tune"
    loss = loss_for(model, data)
    how: dict[str, Any] = {"values": values, "devices": devices, "resume": resume}
    _fit(stage_name, pruned, data, loss=loss, epochs=values.finetune_epochs, **how)
    devices.leave()
    if not devices.writes:
        return None
    whole_units = config.granularity in STRUCTURES and values.shrink
    final = tfc.shrink(pruned) if whole_units else tfc.strip(pruned)
    tfc.save(final, output, overwrite=overwrite)
    if whole_units:
        print(tfc.shrink_report(pruned))
    print(tfc.summary(final))
    print(tfc.evaluate(final, data.x_test, data.y_test))
    print(f"Written to {output}.")
    resume.done()


def _sweep(values: FlagValues) -> None:
    """Prune a model to several sparsities, print and write what each does to training and test data."""
    import tfcompress as tfc

    if values["sparsity"].present:
        raise UsageError("Expected one of --sparsity and --sweep. Received: both.")
    if values.distribution != "none":
        raise UsageError(f"Expected --sweep on one device. Received: --distribution={values.distribution} too.")
    other = [name for name in ("criterion", "granularity", "threshold", "shrink") if values[name].present]
    if other:
        raise UsageError(f"Expected --sweep with single weights ranked by their size. Received: --{other[0]} too.")
    resume = resume_of(values, values.output)
    overwrite = values.overwrite or resume.begun
    output = new_file(values.output, ".json", overwrite)
    picture = new_file(str(output.with_suffix(".png")), ".png", overwrite)
    data = _data(values)
    result = tfc.sweep(
        tfc.load(values.model, unsafe=values.unsafe),
        [float(value) for value in values.sweep],
        data,
        epochs=values.finetune_epochs,
        batch_size=values.batch_size,
        learning_rate=values.learning_rate,
        layers=values.layers,
        scope=values.scope,
        seed=values.seed,
        stage=stage,
        resume=resume,
    )
    result.to_json(output, overwrite=overwrite)
    result.plot(picture, overwrite=overwrite)
    print(result.table(width=110))
    print(f"Written to {output} and {picture}.")
    resume.done()


def quantize(values: FlagValues) -> None:
    """Quantize a model, train it so if that is asked for, save it, and ship it."""
    import tfcompress as tfc
    from tfcompress.cli.device_flags import devices_of, writes_files
    from tfcompress.cli.quantize_flags import check, check_effects, config_of, data_for
    from tfcompress.evaluation.open_predictor import Saved
    from tfcompress.pipeline.quantize_aware_training import calibration_samples, keep_zeros
    from tfcompress.pipeline.training import loss_for, steps_per_epoch
    from tfcompress.quantization.quantize import quantize

    check(values)
    check_effects(values)
    here = writes_files(values)
    resume = resume_of(values, values.output)
    overwrite = values.overwrite or resume.begun  # what is there may be of this very job
    output = new_file(values.output, ".keras", overwrite, here=here)
    outputs = [new_file(path, (".tflite", ".onnx"), overwrite, here=here) for path in values.outputs or ()]
    given = _data(values) if values.data else None
    devices = devices_of(values)
    model = tfc.load(values.model, unsafe=values.unsafe)
    if here:
        check_size(model, output, *outputs)
    data = data_for(model, given, values)
    config = config_of(values, steps_per_epoch(data, values.batch_size, devices) if data else 0)
    with stage(f"quantize as {values.recipe}"):
        quantized = quantize(
            keep_zeros(model) if values.preserve_sparsity and values.qat_epochs else model,
            config,
            calibration_samples(data, values.calibration_samples, values.seed) if data else None,
            values.layers,
            equalize=values.equalize,
            correct_bias=values.correct_bias,
            reestimate_batch_norm=values.reestimate_batch_norm,
            batch_size=values.batch_size,
        )
    if data and values.qat_epochs:
        loss = loss_for(model, data)
        how: dict[str, Any] = {"values": values, "devices": devices, "resume": resume}
        _fit("train quantized", quantized, data, loss=loss, epochs=values.qat_epochs, **how)
    devices.leave()
    if not devices.writes:
        return
    tfc.save(quantized, output, overwrite=overwrite)
    print(tfc.summary(quantized))
    for path in outputs:
        with stage(f"export {path.name}"):
            artifact = tfc.export(
                quantized,
                path,
                inference_io=values.inference_io,
                opset=int(values.opset),
                overwrite=overwrite,
                verify=True if data is None else data.x_test[:256],
            )
        print(artifact)
    if data:
        saved = {"float": Saved(model, pathlib.Path(values.model)), "quantized": Saved(quantized, output)}
        candidates = {**saved, **{path.name: path for path in outputs}}
        print(tfc.compare(candidates, data.x_test, data.y_test, latency=False).table(width=110))
    print(f"Written to {', '.join(map(str, (output, *outputs)))}.")
    resume.done()


def convert(values: FlagValues) -> None:
    """Write a model as TFLite, ONNX or both, each compared with Keras."""
    import tfcompress as tfc

    for flag, suffix in (("opset", ".onnx"), ("external_data", ".onnx"), ("sparse", ".tflite")):
        if not any(path.lower().endswith(suffix) for path in values.outputs):
            refuse_without_effect(values, f"without a {suffix} file among --outputs", flag)
    outputs = [new_file(path, (".tflite", ".onnx"), values.overwrite) for path in values.outputs]
    samples = _data(values).x_test[:256] if values.data else True
    model = tfc.load(values.model, unsafe=values.unsafe)
    asked = values.export_batch_size
    batch: Any = "auto" if asked is None else asked or None
    for path in outputs:
        with stage(f"export {path.name}"):
            artifact = tfc.export(
                model,
                path,
                batch_size=batch,
                precision=values.precision,
                inference_io=values.inference_io,
                opset=int(values.opset),
                sparse=values.sparse and (True if path.suffix == ".tflite" else "auto"),
                external_data=values.external_data if path.suffix.lower() == ".onnx" else None,
                require_integer=values.require_integer,
                stateful=values.stateful,
                random=values.random,
                overwrite=values.overwrite,
                verify=samples,
            )
        print(artifact)


def evaluate(values: FlagValues) -> None:
    """Judge models beside each other on the test data, and time them."""
    import tfcompress as tfc

    data = _data(values)
    targets = {"--html": values.html, "--json": values.json}
    for flag, path in targets.items():
        if path:
            new_file(path, f".{flag[2:]}", values.overwrite)
    candidates = {}
    for path in values.models:
        name = pathlib.Path(path).name
        candidates[path if name in candidates else name] = path
    report = tfc.compare(candidates, data.x_test, data.y_test, threads=values.threads)
    print(report.table(width=110))
    for name in candidates:
        print(f"\n{name}\n{report[name].metrics}")
    if values.json:
        report.to_json(values.json, overwrite=values.overwrite)
    if values.html:
        report.save(values.html, overwrite=values.overwrite)


def benchmark(values: FlagValues) -> None:
    """Time models on random inputs."""
    import tfcompress as tfc

    for path in values.models:
        with stage(f"time {pathlib.Path(path).name}"):
            timing = tfc.benchmark(path, threads=values.threads)
        print(f"{pathlib.Path(path).name}: {timing}")


def _fit(
    text: str, model: Any, data: Any, *, loss: Any, epochs: int, values: FlagValues, devices: Any, resume: Resume
) -> None:
    """Train in place, with a progress bar and the flags that all training has."""
    from tfcompress.pipeline import fit

    with stage(text, epochs) as callbacks:
        fit(
            model,
            data,
            loss,
            epochs=epochs,
            batch_size=values.batch_size,
            learning_rate=values.learning_rate,
            callbacks=callbacks,
            devices=devices,
            backup=resume.backup("training"),
        )


def _data(values: FlagValues) -> Any:
    import keras

    from tfcompress.pipeline import digits, read_npz

    keras.utils.set_random_seed(values["seed"].value if "seed" in values else 0)
    return read_npz(values.data) if values.data else digits()
