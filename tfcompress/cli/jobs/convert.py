"""A model as TFLite, ONNX or both."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.data_flags import DATA, data_of, prepare
from tfcompress.cli.job import Job, Result
from tfcompress.cli.output_paths import new_file
from tfcompress.cli.result import described
from tfcompress.cli.wrong_use import UsageError, refuse_without_effect

if TYPE_CHECKING:
    from tfcompress.pipeline.checkpoints import Resume


def convert(values: FlagValues, resume: Resume) -> Result:
    """Write a model as TFLite, ONNX or both, each compared with Keras."""
    import tfcompress as tfc
    from tfcompress.cli import dry_run
    from tfcompress.cli.training_progress import stage_of
    from tfcompress.runtime.runner import FORMATS

    coded = () if values.target else ("weights",)
    of_formats = {".onnx": ("opset", *coded, "external_data"), ".tflite": ("sparse", "prefer", "names")}
    for flag, suffix in ((flag, suffix) for suffix, flags in of_formats.items() for flag in flags):
        if not any(path.lower().endswith(suffix) for path in values.outputs):
            refuse_without_effect(values, f"without a {suffix} file among --outputs", flag)
    suffix = pathlib.Path(values.model).suffix.lower()
    if suffix in FORMATS:
        raise UsageError(
            f"Expected --model to be a Keras model: .keras, .h5 or a SavedModel. Received: {values.model}, which is a "
            f"{suffix} file already, and holds no Keras layers to make another of. Convert the model that it was made "
            "from; tfcompress inspect says what is in it."
        )
    overwrite = values.overwrite or resume.begun
    outputs = [new_file(path, (".tflite", ".onnx"), overwrite) for path in values.outputs]
    prepare(values)
    model = tfc.load(values.model, unsafe=values.unsafe)
    samples = data_of(values, model).test.first(256) if values.data else True
    asked = values.export_batch_size
    batch: Any = "auto" if asked is None else asked or None
    if values.dry_run:
        plans = {path: tfc.plan_export(model, path.suffix[1:].lower()) for path in outputs}
        rows = [
            {"file": path.name, "layer": one.layer, "class": one.kind, "computes in": one.arithmetic, "why": one.status}
            for path, plan in plans.items()
            for one in plan.operators
        ]
        return dry_run.said(f"Would export {model.name}, and compare each file with it.", rows, outputs)
    stage, made = stage_of(values), []
    resume.begin()
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
                prefer=values.prefer if path.suffix.lower() == ".tflite" else "speed",
                names=values.names,
                weights=values.weights if path.suffix.lower() == ".onnx" or values.target else "plain",
                target=values.target,
                ram=values.ram,
                flash=values.flash,
                external_data=values.external_data if path.suffix.lower() == ".onnx" else None,
                require_integer=values.require_integer,
                stateful=values.stateful,
                random=values.random,
                overwrite=overwrite,
                verify=samples,
            )
        print(artifact)
        made.append(artifact)
    return {"files": [described(artifact) for artifact in made]}


JOB = Job(
    does="Writes a model as TFLite, ONNX or both; one that is quantized in integers, as it was quantized.",
    example="--model=my.keras --outputs=my.tflite,my.onnx --precision=float16",
    more="Each file is run by the runtime that will run it and compared with Keras before it gets its name: on the "
    "first 256 samples for tests in --data, without it on random ones. --sparse leaves the zeros of a pruned model out "
    "of .tflite files.",
    run=convert,
    flags=(
        *("model", "outputs", *DATA, "overwrite", "unsafe", "target", "precision", "sparse", "inference_io", "opset"),
        *("ram", "flash", "prefer", "names"),
        *("weights", "external_data", "require_integer", "stateful", "random", "export_batch_size", "dry_run"),
    ),
    required=("model", "outputs"),
    target=lambda values: values.outputs[0],
)
