#!/usr/bin/env bash
# TensorFlow 2.21.0: tf.lite.TFLiteConverter.from_saved_model(folder).convert() loads the SavedModel twice as Python
# objects, with all its variables: once in from_saved_model, and once more in convert(), which reads only the debug
# information from it, drops it and calls gc.collect(), before the conversion itself begins.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tensorflow==2.21.0 numpy==2.4.6
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import collections
import gc
import sys

import numpy as np
import tensorflow as tf

module = tf.Module()
module.weights = tf.Variable(np.ones((8, 5), "float32"))
module.run = tf.function(lambda x: tf.matmul(x, module.weights), input_signature=[tf.TensorSpec((1, 8), name="x")])
tf.saved_model.save(module, "saved", signatures=module.run)
calls = collections.Counter()


def count(frame, event, argument):
    """Count the loads of a SavedModel, the variables made for it and the garbage collections."""
    code = frame.f_code
    if event == "call" and code.co_filename.endswith("saved_model/load.py"):
        calls[code.co_name] += code.co_name in ("load_partial", "_recreate_variable")
    elif event == "c_call" and argument is gc.collect:
        calls["gc.collect"] += 1


def counted(function, *arguments):
    """Return what `function` returns, and the calls under it."""
    calls.clear()
    sys.setprofile(count)
    try:
        result = function(*arguments)
    finally:
        sys.setprofile(None)
    return result, {name: number for name, number in calls.items() if number}


converter, making = counted(tf.lite.TFLiteConverter.from_saved_model, "saved")
_, converting = counted(converter.convert)
print("from_saved_model", making, "convert", converting)
assert making == {"load_partial": 1, "_recreate_variable": 1}, making
assert converting == {"load_partial": 1, "_recreate_variable": 1, "gc.collect": 1}, converting
PYTHON
echo "as described: the SavedModel is loaded twice in Python"
