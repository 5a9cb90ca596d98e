"""python scripts/quantize.py --model=my.keras --data=my.npz --output=my_int8.keras --outputs=my.tflite,my.onnx

Quantizes a model: finds the ranges of its activations on some of x_train and, with --qat_epochs, trains it quantized.
The .keras file computes as the .tflite and .onnx files do, which are compared with it before they get their names.
Without --data it takes scikit-learn's digits, if they fit the model.
"""

import _environment  # noqa: F401

from tfcompress.cli import app, device_flags, flags
from tfcompress.cli.jobs.quantize import quantize

flags.define("model", "data", "output", "outputs", "recipe", "layers", "calibration_samples", "range", "qat_epochs")
flags.define("freeze_ranges_epoch", "freeze_ranges_step", "freeze_batch_norm_epoch", "freeze_batch_norm_step")
flags.define("equalize", "correct_bias", "reestimate_batch_norm", "preserve_sparsity", "inference_io", "opset")
flags.define("batch_size", "learning_rate", "seed", "overwrite", "unsafe")
flags.default("learning_rate", 2e-4)
flags.define(*device_flags.FLAGS)
flags.require("model", "output")

if __name__ == "__main__":
    app.run(quantize, __doc__)
