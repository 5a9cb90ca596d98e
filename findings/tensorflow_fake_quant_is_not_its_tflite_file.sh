#!/usr/bin/env bash
# TensorFlow 2.21.0 and its TFLite file of one fake_quant_with_min_max_vars(x, -1, 1) differ by a whole step in 128 of
# the 256 pixels p / 127.5 - 1, the commonest preprocessing: the range is moved so that zero is an integer, each pixel
# then lies half way between two, and TensorFlow's operator rounds halves up where the file's QUANTIZE rounds them to
# even. (Where the pixels themselves were computed in float32, 72 differ: rounding has moved the others off the half.)
# Pixels p / 255 with the range 0..1 are equal, all 256.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tensorflow==2.21.0 ai-edge-litert==2.3.0 numpy==2.4.6
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter


def unequal(x, low, high):
    """Return how many values TensorFlow and the file quantize to other integers, and by how much at most."""
    module = tf.Module()
    module.run = tf.function(
        lambda x: tf.quantization.fake_quant_with_min_max_vars(x, low, high),
        input_signature=[tf.TensorSpec((256,), name="x")],
    )
    convert = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
    convert.optimizations = [tf.lite.Optimize.DEFAULT]
    (value,) = Interpreter(model_content=convert.convert()).get_signature_runner()(x=x).values()
    steps = np.abs(value - module.run(tf.constant(x)).numpy()) / ((high - low) / 255)
    return int(np.sum(steps > 0.5)), float(steps.max())


pixels = np.arange(256)
around = unequal((pixels / 127.5 - 1).astype("float32"), -1.0, 1.0)
positive = unequal((pixels / 255).astype("float32"), 0.0, 1.0)
print("p / 127.5 - 1:", around, "p / 255:", positive)
assert around[0] == 128 and abs(around[1] - 1) < 0.01, around
assert positive[0] == 0, positive
PYTHON
echo "as described: half of the pixels differ by one step"
