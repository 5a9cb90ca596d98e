#!/usr/bin/env bash
# tf2onnx 1.17.0: TensorFlow's floor division of integers becomes ONNX's Div, which truncates towards zero, and
# floor modulo a Div, Mul and Sub of it. -7 // 2 is -3 in the file (-4 in TensorFlow), -7 % 2 is -1 (1 in TensorFlow).
# No warning. Operands of equal sign are right, so positive test data doesn't show it.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tensorflow==2.21.0 tf2onnx==1.17.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx

a, b = np.int32([-7, -6, -5, 7]), np.int32([2, 2, -3, 2])
signature = [tf.TensorSpec((4,), tf.int32, "a"), tf.TensorSpec((4,), tf.int32, "b")]


@tf.function(input_signature=signature)
def both(a, b):
    return {"division": tf.math.floordiv(a, b), "modulo": tf.math.floormod(a, b)}


model, _ = tf2onnx.convert.from_function(both, input_signature=signature, opset=18)
session = onnxruntime.InferenceSession(model.SerializeToString())
received = dict(zip([x.name for x in session.get_outputs()], session.run(None, {"a": a, "b": b}), strict=True))
expected = {name: value.numpy() for name, value in both(a, b).items()}
print("operators:", [node.op_type for node in model.graph.node])
for name in expected:
    print(name, "TensorFlow", expected[name].tolist(), "file", received[name].tolist())
assert expected["division"].tolist() == [-4, -3, 1, 3] and received["division"].tolist() == [-3, -3, 1, 3]
assert expected["modulo"].tolist() == [1, 0, -2, 1] and received["modulo"].tolist() == [-1, 0, -2, 1]
PYTHON
echo "as described: division and modulo of integers are truncated"
