#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: model.quantize("int8") breaks a Dense within TimeDistributed. Its kernel becomes
# integers, but the scales are not applied: values come out about a hundred times too large (273 where 2 is right). The
# same Dense called without TimeDistributed is right to .01. No error, and no warning that names it.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0 numpy==2.4.6
cd "$folder"
KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import keras
import numpy as np


def error(wrapped):
    """Return by how much, of the largest value, quantization changes what a Dense gives."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 4))
    layer = keras.layers.Dense(3)
    layer = keras.layers.TimeDistributed(layer) if wrapped else layer
    model = keras.Model(inputs, layer(inputs))
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    before = np.asarray(model(x))
    model.quantize("int8")
    return float(np.abs(np.asarray(model(x)) - before).max() / np.abs(before).max())


alone, wrapped = error(False), error(True)
print(f"Dense: {alone:.4f} of the largest value off; within TimeDistributed: {wrapped:.1f}")
assert alone < 0.02, alone
assert wrapped > 20, wrapped
PYTHON
echo "as described: an int8 Dense within TimeDistributed is off by far more than its largest value"
