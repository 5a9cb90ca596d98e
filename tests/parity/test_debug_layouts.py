"""tfc.debug on files that lay tensors out in another order than Keras: what is exact is never accused."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.check import in_turn


def transposed(rows, columns):
    x = keras.Input((rows, columns))
    y = L.Dense(rows, name="dense", activation="relu")(ops.transpose(x, (0, 2, 1)))
    return keras.Model(x, L.Dense(5, name="last")(ops.transpose(y, (0, 2, 1))))


def permuted():
    x = keras.Input((4, 4, 4))
    y = L.Permute((2, 3, 1))(L.Dense(4, name="dense")(L.Permute((3, 1, 2))(x)))
    return keras.Model(x, L.Dense(3, name="last")(L.Permute((2, 1, 3))(L.Conv2D(4, 1, name="conv")(y))))


def reshaped():
    x = keras.Input((4, 4, 4))
    y = L.Reshape((16, 4))(L.Conv2D(4, 1, name="conv", activation="relu")(x))
    y = L.Reshape((8, 8))(L.Dense(16, name="dense")(ops.transpose(y, (0, 2, 1))))
    return keras.Model(x, L.Dense(3, name="last")(ops.swapaxes(L.Conv1D(8, 1, name="narrow")(y), 1, 2)))


def channels():
    x = keras.Input((6, 6, 3))
    y = L.Conv2D(6, 3, padding="same", name="conv", activation="relu")(x)
    y = L.Conv2D(6, 3, padding="same", name="conv2")(ops.transpose(y, (0, 3, 1, 2)))
    return keras.Model(x, L.Dense(3, name="last")(L.Flatten()(y)))


MODELS = {
    "square": lambda: transposed(5, 5),
    "oblong": lambda: transposed(6, 4),
    "permuted": permuted,
    "reshaped": reshaped,
    "channels": channels,
}


@pytest.mark.parametrize(("name", "recipe"), in_turn(MODELS, ["int8", None, "int8_weights"]))
def test_what_is_exact_is_not_accused(name, recipe, tmp_path):
    keras.utils.set_random_seed(1)
    model = MODELS[name]()
    x = np.random.default_rng(0).normal(size=(16, *model.inputs[0].shape[1:])).astype("float32")
    if recipe is not None:
        model = tfc.quantize(model, recipe, data=x if recipe == "int8" else None)
    for format in ("tflite", "onnx"):
        tfc.export(model, tmp_path / f"m.{format}")
        report = tfc.debug(model, tmp_path / f"m.{format}", x[:4])
        assert report.first is None, str(report)
        matched = [tensor for tensor in report.tensors if tensor.tensor is not None]
        assert len(matched) >= 2
        most = 1.01 if recipe == "int8" else 0.0
        assert all((tensor.own_max_steps or 0.0) <= most for tensor in matched), str(report)
        assert all(name in str(report) for name in report.missing)
