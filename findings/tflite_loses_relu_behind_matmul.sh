#!/usr/bin/env bash
# TensorFlow 2.21.0, the TFLite converter: relu(x @ f(x)), a product of two computed matrices of rank 2, becomes a
# BATCH_MATMUL without the ReLU. No warning; the file returns negative numbers (here -1.96 where TensorFlow has 0).
# The same product of rank 3, and a product with a constant matrix, keep their ReLU.
# Fails if a release of TensorFlow no longer does so.
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

x = np.random.default_rng(0).normal(size=(4, 4)).astype("float32")
eye = tf.constant(np.eye(4, dtype="float32"))


def smallest(function):
    """Return the least value that TensorFlow computes, that of the file, and the file's operators."""
    module = tf.Module()
    module.run = tf.function(function, input_signature=[tf.TensorSpec((4, 4), name="x")])
    convert = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
    file = Interpreter(model_content=convert.convert())
    (value,) = file.get_signature_runner()(x=x).values()
    names = {operator["op_name"] for operator in file._get_ops_details()}
    return float(tf.reduce_min(module.run(tf.constant(x)))), float(value.min()), names


plain = smallest(lambda x: tf.nn.relu(x @ tf.tanh(x)))
rank3 = smallest(lambda x: tf.nn.relu(x[None] @ tf.tanh(x)[None]))
constant = smallest(lambda x: tf.nn.relu(x @ eye))
print("rank 2, both computed:", plain)
print("rank 3, both computed:", rank3)
print("rank 2, one constant: ", constant)
assert plain[0] == 0.0 and plain[1] < -1.9 and "RELU" not in plain[2], plain
assert rank3[1] == 0.0 and "RELU" in rank3[2], rank3
assert constant[1] == 0.0, constant
PYTHON
echo "as described: the ReLU is lost at rank 2"
