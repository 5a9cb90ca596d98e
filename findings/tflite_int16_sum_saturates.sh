#!/usr/bin/env bash
# TensorFlow 2.21.0, the TFLite converter with int16 activations and int8 weights: SUM gets the scale of its input for
# its output, whatever calibration saw, so that a sum never exceeds the largest input: 16 numbers of 0..1 that add up to
# 8.12 come out as .997. No warning. The same sum with int8 activations gets a scale of its own and is 8.13; MEAN is
# right in both.
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

INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
x = np.random.default_rng(0).uniform(0, 1, (16, 1, 16)).astype("float32")


def converted(function, operators):
    """Return the first value that the file of `function` computes."""
    module = tf.Module()
    module.run = tf.function(lambda x: function(x, axis=-1), input_signature=[tf.TensorSpec((1, 16), name="x")])
    convert = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
    convert.optimizations = [tf.lite.Optimize.DEFAULT]
    convert.representative_dataset = lambda: ([sample] for sample in x)
    convert.target_spec.supported_ops = [operators]
    interpreter = Interpreter(model_content=convert.convert())
    scales = [d["quantization"][0] for d in interpreter.get_tensor_details() if d["quantization"][0]]
    (value,) = interpreter.get_signature_runner()(x=x[0]).values()
    return float(value[0]), scales


for function in (tf.reduce_sum, tf.reduce_mean):
    right = float(function(x[0]))
    (int8, _), (int16, scales) = (converted(function, o) for o in (tf.lite.OpsSet.TFLITE_BUILTINS_INT8, INT16))
    print(f"{function.__name__}: right {right:.3f}, int8 {int8:.3f}, int16 {int16:.3f} with scales {scales}")
    assert abs(int8 - right) < 0.02, int8
    if function is tf.reduce_mean:
        assert abs(int16 - right) < 0.001, int16
    else:
        assert int16 < 1 and right > 8 and len(set(scales)) == 1, (int16, scales)
PYTHON
echo "as described: a sum in int16 has the scale of its input, and saturates there"
