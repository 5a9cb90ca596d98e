#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: Dropout(.5)(x, training=True) in a functional model drops values in model(x), and
# none in model.predict(x) and model(x, training=False): the model's training replaces what the layer was called with,
# so that the usual way to Monte-Carlo dropout gives one and the same prediction each time. In a subclassed model, whose
# call says self.dropout(x, training=True), predict drops values.
# Fails if that changes (Keras' nightly of 3.16 hands the model's training on in another way).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0 numpy==2.4.6
cd "$folder"
KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import keras
import numpy as np


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dropout = keras.layers.Dropout(0.5)

    def call(self, x):
        return self.dropout(x, training=True)


inputs = keras.Input((1000,))
functional = keras.Model(inputs, keras.layers.Dropout(0.5)(inputs, training=True))
ones = np.ones((4, 1000), "float32")


def dropped(values):
    return round(float((np.asarray(values) == 0).mean()), 1)


found = {
    "model(x)": dropped(functional(ones)),
    "model(x, training=False)": dropped(functional(ones, training=False)),
    "predict": dropped(functional.predict(ones, verbose=0)),
    "predict of a subclassed model": dropped(Subclassed().predict(ones, verbose=0)),
}
print("share of values that are dropped:", found)
assert list(found.values()) == [0.5, 0.0, 0.0, 0.5], found
PYTHON
echo "as described: a functional model's predict drops nothing, whatever its Dropout was called with"
