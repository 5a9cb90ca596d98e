#!/usr/bin/env bash
# TensorFlow 2.21.0's floor division of float32 numbers and that of its own TFLite file (ai-edge-litert 2.3.0, default
# and reference kernels) differ by one where the quotient rounds to a whole number: 1.5 // .3 is 5 in TensorFlow, which
# takes the floor of the rounded quotient, and 4 in the file (and in NumPy), since .3 in float32 is a little more than
# .3. Values that stand on the edges of bins, as rounded measurements do, so come into another bin.
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
from ai_edge_litert.interpreter import Interpreter, OpResolverType

x, y = np.float32([1.5, 2.1, 0.6, 7.0]), np.float32([0.3, 0.7, 0.2, 2.0])
signature = [tf.TensorSpec((4,), name="x"), tf.TensorSpec((4,), name="y")]
module = tf.Module()
module.run = tf.function(lambda x, y: tf.math.floordiv(x, y), input_signature=signature)
file = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module).convert()
expected = module.run(x, y).numpy()
print("TensorFlow", expected, "NumPy", np.floor_divide(x, y))
for kernels in (OpResolverType.AUTO, OpResolverType.BUILTIN_REF):
    interpreter = Interpreter(model_content=file, experimental_op_resolver_type=kernels)
    (received,) = interpreter.get_signature_runner()(x=x, y=y).values()
    print("file", received, [op["op_name"] for op in interpreter._get_ops_details()])
    assert received.tolist() == [4, 2, 3, 3], received
assert expected.tolist() == [5, 3, 3, 3], expected
PYTHON
echo "as described: quotients that round to a whole number are one less in the file"
