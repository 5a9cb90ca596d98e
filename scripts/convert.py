"""python scripts/convert.py --model=my.keras --outputs=my.tflite,my.onnx --precision=float16

Writes a model as TFLite, ONNX or both; one from scripts/quantize.py in integers, as it was quantized. Each file is
run by the runtime that will run it and compared with Keras before it gets its name: on the first 256 samples of x_test
in --data, without it on random ones. --sparse leaves the zeros of a pruned model out of .tflite files.
"""

import _environment  # noqa: F401

from tfcompress.cli import app, flags
from tfcompress.cli.jobs.convert import convert

flags.define(
    "model",
    "outputs",
    "data",
    "precision",
    "sparse",
    "inference_io",
    "opset",
    "external_data",
    "require_integer",
    "stateful",
    "random",
    "export_batch_size",
    "overwrite",
    "unsafe",
)
flags.require("model", "outputs")

if __name__ == "__main__":
    app.run(convert, __doc__)
