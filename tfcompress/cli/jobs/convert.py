"""A model as TFLite, ONNX or both."""

from __future__ import annotations

from typing import Any

from absl.flags import FlagValues

from tfcompress.cli.app import refuse_without_effect
from tfcompress.cli.data_flags import data_of
from tfcompress.cli.output_paths import new_file
from tfcompress.cli.training_progress import stage


def convert(values: FlagValues) -> None:
    """Write a model as TFLite, ONNX or both, each compared with Keras."""
    import tfcompress as tfc

    for flag, suffix in (("opset", ".onnx"), ("external_data", ".onnx"), ("sparse", ".tflite")):
        if not any(path.lower().endswith(suffix) for path in values.outputs):
            refuse_without_effect(values, f"without a {suffix} file among --outputs", flag)
    outputs = [new_file(path, (".tflite", ".onnx"), values.overwrite) for path in values.outputs]
    samples = data_of(values).x_test[:256] if values.data else True
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
