#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: load_weights() of a .weights.h5 goes by the class of layers and their order, not by
# their names, and passes over what the file has more. A file of three Dense layers named first, second and third loads,
# without an error or a warning, into a model of two that are named second and third: they get the weights of first and
# second. A file with fewer layers than the model is refused.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0 numpy==2.4.6
cd "$folder"
KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import warnings

import keras
import numpy as np


def dense(*names):
    """Return a model of Dense layers of one size."""
    return keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4, name=name) for name in names)])


keras.utils.set_random_seed(0)
large, small = dense("first", "second", "third"), dense("second", "third")
large.save_weights("large.weights.h5")
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    small.load_weights("large.weights.h5")
kernels = {layer.name: np.asarray(layer.kernel) for layer in large.layers}
got = [
    (layer.name, next(name for name, kernel in kernels.items() if np.array_equal(kernel, layer.kernel)))
    for layer in small.layers
]
print("warnings:", len(said), "layer and whose kernel it got:", got)
assert not said and got == [("second", "first"), ("third", "second")], got
small.save_weights("small.weights.h5")
try:
    large.load_weights("small.weights.h5")
except ValueError as error:
    print("fewer layers:", str(error).splitlines()[0])
else:
    raise AssertionError("a file with fewer layers was loaded")
PYTHON
echo "as described: weights go to layers of other names, and layers that are too many are passed over, in silence"
