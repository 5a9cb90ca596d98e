#!/usr/bin/env bash
# Keras 3.15.1 on TensorFlow 2.21.0: fit over a PyDataset calls its on_epoch_end once before the first epoch begins, and
# reads batches for it too: of two epochs it ends three, of evaluate, which has one pass, two. Whoever shuffles, counts or
# makes the data harder in on_epoch_end is an epoch ahead: what was there first is never
# trained on. Fails if it ends as many epochs as there are.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0 numpy==2.4.6
cd "$folder"
KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import keras
import numpy as np


class Data(keras.utils.PyDataset):
    """Two batches, which hold how many epochs have ended."""

    def __init__(self):
        super().__init__()
        self.ended = 0

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.full((1, 1), self.ended, "float32"), np.zeros((1, 1), "float32")

    def on_epoch_end(self):
        self.ended += 1


class Model(keras.Model):
    def train_step(self, data):
        self.seen.append(int(data[0].numpy().item()))
        return {"loss": 0.0}

    def test_step(self, data):
        return {"loss": 0.0}


model = Model()
model.seen = []
model.compile(run_eagerly=True)
trained, judged = Data(), Data()
model.fit(trained, epochs=2, verbose=0)
model.evaluate(judged, verbose=0)
print(f"fit of 2 epochs ended {trained.ended}, its batches were of epochs {model.seen}; evaluate ended {judged.ended}")
assert (trained.ended, judged.ended) == (3, 2)
assert 0 not in model.seen, model.seen
PYTHON
echo "as described: one epoch more is ended than there are, before the first"
