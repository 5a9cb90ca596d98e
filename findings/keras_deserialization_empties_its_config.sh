#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: keras.saving.deserialize_keras_object(config) and from_config(config) empty the
# dict that they are given, of a functional model (its layers, name, inputs and outputs), TimeDistributed (its layer)
# and RNN (its cell): the first call builds the object, and the second, with the same dict, raises TypeError or
# KeyError. Dense, Bidirectional and Sequential leave theirs as it was, unless one of the former is in it.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  keras==3.15.1 tensorflow==2.21.0 numpy==2.4.6
cd "$folder"
KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import copy

import keras
from keras import layers

inputs = keras.Input((4,))


def again(made):
    """Return which entries of `config` building an object takes out, and what building it once more raises."""
    saved = keras.saving.serialize_keras_object(made)
    before = copy.deepcopy(saved)
    keras.saving.deserialize_keras_object(saved)
    try:
        keras.saving.deserialize_keras_object(saved)
    except Exception as error:
        raised = type(error).__name__
    else:
        raised = None
    config = made.get_config()
    type(made).from_config(config)
    assert (config == made.get_config()) == (saved == before) == (raised is None)
    return sorted(set(before["config"]) - set(saved["config"])), raised


functional = keras.Model(inputs, layers.Dense(3)(inputs))
expected = [
    (functional, (["input_layers", "layers", "name", "output_layers", "trainable"], "TypeError")),
    (layers.TimeDistributed(layers.Dense(3)), (["layer"], "KeyError")),
    (layers.RNN(layers.LSTMCell(3)), (["cell"], "KeyError")),
    (layers.Dense(3), ([], None)),
    (layers.Bidirectional(layers.LSTM(3)), ([], None)),
    (keras.Sequential([inputs, layers.Dense(3)]), ([], None)),
    (keras.Sequential([keras.Input((5, 4)), layers.TimeDistributed(layers.Dense(3))]), ([], "KeyError")),
]
for made, result in expected:
    received = again(made)
    print(type(made).__name__, received)
    assert received == result, (received, result)
PYTHON
echo "as described: a config can be used once"
