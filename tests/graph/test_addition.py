"""Sums in a `call` that is opened are TensorFlow's: Keras' own add along another axis where sizes coincide."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfcompress as tfc

COLUMN = np.arange(4, dtype="float32")[:, None]
SUMS = {
    "array": lambda model, x, y: y + COLUMN,
    "array_first": lambda model, x, y: COLUMN + y,
    "weight": lambda model, x, y: y + model.column,
    "tensorflow": lambda model, x, y: ops.convert_to_tensor(COLUMN) + y,
    "computed": lambda model, x, y: y + ops.max(x, axis=-1, keepdims=True),
    "in_rank_two": lambda model, x, y: y[:, 0] + ops.mean(y, axis=(1, 2))[:, None],
    "both_columns": lambda model, x, y: y[:, None, :1, 0] + ops.reshape(ops.mean(x, (0, 2)), (1, 4, 1)),
    "keras": lambda model, x, y: ops.add(y, COLUMN),
}


class Adds(keras.Model):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.first, self.last = kind, layers.Dense(4, activation="relu"), layers.Dense(2)

    def build(self, shape):
        self.column = self.add_weight(shape=(4, 1), initializer="normal")
        self.built = True

    def call(self, x):
        return self.last(SUMS[self.kind](self, x, self.first(x)))


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("kind", SUMS)
def test_sums_of_an_opened_call_are_what_they_were(kind, free, tmp_path):
    keras.utils.set_random_seed(0)
    model, x = Adds(kind), np.random.default_rng(0).normal(size=(4, 4, 3)).astype("float32")
    if free:
        model.build((None, None, 3))
        shapes = {"input_shapes": (4, 3)}
    else:
        shapes = {}
    model(x)
    copy = tfc.strip(
        tfc.prune(model, tfc.PruneConfig(tfc.ConstantSparsity(0.5, begin_step=100, frequency=1)), **shapes)
    )
    for count in (4, 1, 3):  # 4: as many samples as columns
        np.testing.assert_allclose(copy(x[:count]), model(x[:count]), rtol=1e-5, atol=1e-6)
    if kind == "computed":
        tfc.export(copy, tmp_path / "m.onnx", verify=x)
        assert tfc.verify(model, tmp_path / "m.onnx", x).outputs[0].max_rel < 1e-5
