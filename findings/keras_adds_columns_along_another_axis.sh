#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: keras.ops.add(x, y), and `x + y` in a functional model, takes a `y` with one size
# above 1 for a bias, and adds it along the last axis of `x`, or the second, if that has the same size, wherever `y`
# has its values. Numbers for each of 4 columns, of shape (4, 1), are so added to the rows of square images (2, 4, 4, 3),
# and those for each of 5 queries to the keys of scores (2, 5, 5). ops.subtract(x, -y), NumPy and TensorFlow broadcast.
# No error. With sizes that all differ it is right.
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


def along(shape, size):
    """Return the axes along which what was added to zeros varies: by Keras' addition, its subtraction, and NumPy."""
    zeros, y = np.zeros(shape, "float32"), np.arange(1.0, size + 1, dtype="float32")[:, None]
    inputs = keras.Input(shape[1:])
    graph = keras.Model(inputs, inputs + y)
    results = (keras.ops.add(zeros, y), graph(zeros), keras.ops.subtract(zeros, -y), zeros + y)
    return [[axis for axis in range(len(shape)) if np.ptp(np.asarray(r), axis=axis).max() > 0] for r in results]


square, scores, wide = along((2, 4, 4, 3), 4), along((2, 5, 5), 5), along((2, 7, 4, 3), 4)
print("square images", square, "scores", scores, "wide images", wide)
assert square == [[1], [1], [2], [2]], square
assert scores == [[2], [2], [1], [1]], scores
assert wide == [[2], [2], [2], [2]], wide
PYTHON
echo "as described: a column of numbers is added along another axis where sizes coincide"
