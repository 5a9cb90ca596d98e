#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: over a tf.data.Dataset whose length is known, fit makes two iterators an epoch. A
# shuffle with a seed draws another order for each iterator, so three epochs see the orders that passes 0, 2 and 4 over
# the same data set in plain Python see; with a length that isn't known they see those of 0, 1 and 2. A loop of one's
# own with the same seed is no reference for fit, and whether a data set knows its length changes what a seed gives.
# Fails if both see the orders of plain passes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0 numpy==2.4.6
cd "$folder"
KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import keras
import tensorflow as tf


def known_length():
    return tf.data.Dataset.range(8).shuffle(8, seed=1).batch(8)


def unknown_length():
    made = tf.data.Dataset.from_generator(lambda: range(8), output_signature=tf.TensorSpec((), tf.int64))
    return made.shuffle(8, seed=1).batch(8)


def orders(data, count):
    return [tuple(next(iter(data)).numpy().tolist()) for _ in range(count)]


class Model(keras.Model):
    def train_step(self, data):
        self.seen.append(tuple(data.numpy().tolist()))
        return {"loss": 0.0}


for name, make, expected in (("known", known_length, [0, 2, 4]), ("unknown", unknown_length, [0, 1, 2])):
    passes = orders(make(), 8)
    model = Model()
    model.seen = []
    model.compile(run_eagerly=True)
    model.fit(make(), epochs=3, verbose=0)
    found = [passes.index(order) for order in model.seen]
    print(f"length {name}: epochs 0, 1, 2 saw the orders of passes {found}")
    assert found == expected, found
PYTHON
echo "as described: with a known length every other order is skipped"
