"""A small search, for tests and for processes of their own."""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import keras
import numpy as np

SPACE = {
    "name": "small",
    "steps": [
        {"step": "prune", "config": {"low": 0.1, "high": 0.9}},
        {"step": "quantize", "config": {"weights": {"bits": {"choice": [2, 4, 8]}}}},
        {"step": "export", "files": ["a.onnx"]},
    ],
}


def inputs() -> tuple[keras.Model, Any, Any]:
    """Return a model, what to calibrate with, and what to judge by."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(1400, 8)).astype("float32")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(4, name="y")])
    y = model.predict(x, verbose=0).argmax(1)
    return model, (x[:200], y[:200]), (x[200:], y[200:])


if __name__ == "__main__":
    from tfcompress.search.study import search

    folder, trials = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    model, data, validation = inputs()
    search(model, SPACE, data=data, validation=validation, output_dir=folder, trials=trials)
