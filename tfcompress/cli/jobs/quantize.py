"""Quantization after or in training, and the files of it."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.data_flags import DATA, data_of, prepare
from tfcompress.cli.flags import MACHINE
from tfcompress.cli.job import Job, Result
from tfcompress.cli.output_paths import check_size, new_file
from tfcompress.cli.pages import page_files, table_width, write_pages
from tfcompress.cli.result import about, files_made
from tfcompress.cli.training_run import train_in_place

if TYPE_CHECKING:
    import keras

    from tfcompress.data.dataset import Dataset
    from tfcompress.export import Artifact
    from tfcompress.pipeline.checkpoints import Resume


def quantize(values: FlagValues, resume: Resume) -> Result:
    """Quantize a model, train it so if that is asked for, save it, and ship it."""
    import tfcompress as tfc
    from tfcompress.cli import dry_run
    from tfcompress.cli.device_flags import devices_of, writes_files
    from tfcompress.cli.quantize_flags import check, check_effects, config_of, data_for
    from tfcompress.cli.training_progress import stage_of
    from tfcompress.evaluation.open_predictor import Saved
    from tfcompress.pipeline.losses import loss_for
    from tfcompress.pipeline.training import steps_per_epoch
    from tfcompress.quantization.quantize import quantize

    check(values)
    check_effects(values)
    here, stage = writes_files(values), stage_of(values)
    overwrite = values.overwrite or resume.begun  # what is there may be of this very job
    output = new_file(values.output, ".keras", overwrite, here=here)
    outputs = [new_file(path, (".tflite", ".onnx"), overwrite, here=here) for path in values.outputs or ()]
    pages = page_files(values, overwrite, here=here)
    prepare(values)
    devices = devices_of(values)
    model = tfc.load(values.model, unsafe=values.unsafe)
    if here:
        check_size(model, output, *outputs)
    data = data_for(model, data_of(values, model) if values.data else None, values)
    config = config_of(values, steps_per_epoch(data, values.batch_size, devices) if data else 0)
    asked = values.config or values.recipe
    if values.dry_run:
        trained = f", train it for {values.qat_epochs} epochs" if values.qat_epochs else ""
        return dry_run.said(
            f"Would quantize {model.name} as {asked}, calibrate it{trained}, and compare each file with it.",
            dry_run.of_layers(quantize(_keeping(values, model), config, None, values.layers, equalize=values.equalize)),
            [output, *outputs, *pages],
        )
    with stage(f"quantize as {asked}"):
        quantized = quantize(
            _keeping(values, model),
            config,
            data.train.drawn(values.calibration_samples, values.seed) if data else None,
            values.layers,
            equalize=values.equalize,
            correct_bias=values.correct_bias,
            reestimate_batch_norm=values.reestimate_batch_norm,
            rounding=values.rounding,
            batch_size=values.batch_size,
        )
    if data and values.qat_epochs:
        loss = loss_for(model, data)
        how: dict[str, Any] = {"values": values, "devices": devices, "resume": resume}
        train_in_place("train quantized", quantized, data, loss=loss, epochs=values.qat_epochs, **how)
    devices.leave()
    if not devices.writes:
        return None
    resume.begin()
    tfc.save(quantized, output, overwrite=overwrite)
    print(tfc.summary(quantized))
    artifacts = {path.name: _exported(values, quantized, path, data, overwrite) for path in outputs}
    found: dict[str, Any] = {}
    if data:
        saved = {"float": Saved(model, pathlib.Path(values.model)), "quantized": Saved(quantized, output)}
        said = {**about(values, "quantize", data, model.name), "recipe": repr(config)}
        compared: dict[str, Any] = {"latency": False, "class_names": data.class_names, "about": said}
        report = tfc.compare({**saved, **artifacts}, data.test.in_order(), **compared)
        print(report.table(width=table_width()))
        write_pages(report, pages, overwrite)
        found = report.to_dict()
    files = [output, *outputs, *pages]
    print(f"Written to {', '.join(map(str, files))}.")
    return {**found, "files": files_made(files)}


def _keeping(values: FlagValues, model: keras.Model) -> keras.Model:
    """Return a model whose few values, and zeros if it is trained, stay as they are."""
    from tfcompress.clustering.kept_values import keep_values
    from tfcompress.pruning import keep_zeros

    masked = keep_zeros(model) if values.preserve_sparsity and values.qat_epochs else model
    return keep_values(masked, preserve_sparsity=values.preserve_sparsity)


def _exported(
    values: FlagValues, quantized: keras.Model, path: pathlib.Path, data: Dataset | None, overwrite: bool
) -> Artifact:
    """Write a file, and say what it is."""
    import tfcompress as tfc
    from tfcompress.cli.training_progress import stage_of

    with stage_of(values)(f"export {path.name}"):
        artifact = tfc.export(
            quantized,
            path,
            inference_io=values.inference_io,
            opset=int(values.opset),
            weights=values.weights if path.suffix.lower() == ".onnx" else "plain",
            overwrite=overwrite,
            verify=True if data is None else data.test.first(256),
        )
    print(artifact)
    return artifact


JOB = Job(
    does="Quantizes a model, after training or, with --qat_epochs, in training, and writes its files.",
    example="--model=my.keras --data=my.npz --output=my_int8.keras --outputs=my.tflite,my.onnx",
    more="The ranges of activations are found on some of the training data. The .keras file computes as the .tflite "
    "and .onnx files do, which are compared with it before they get their names. What train made of "
    "scikit-learn's digits needs no --data. A config of --config is the name of a recipe, or fields of "
    'tfcompress.QuantizeConfig: {"logits": null, "conv.*": {"weights": {"bits": 4}}, ".*": "int8"}.',
    run=quantize,
    flags=(
        *("model", *DATA, "output", "outputs", "html", "markdown", "overwrite", "unsafe", "layers", "config"),
        *("recipe", "range", "calibration_samples", "freeze_ranges_epoch", "freeze_ranges_step"),
        *("freeze_batch_norm_epoch", "freeze_batch_norm_step", "equalize", "correct_bias", "reestimate_batch_norm"),
        "rounding",
        *("preserve_sparsity", "inference_io", "opset", "weights", "qat_epochs", "batch_size", "learning_rate"),
        *("dry_run", *MACHINE),
    ),
    required=("model", "output"),
    target=lambda values: values.output,
    defaults={"learning_rate": 2e-4},
)
