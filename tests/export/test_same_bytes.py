"""The same model makes the same file: again; `tests/test_new_process.py` builds it anew in another process."""

import hashlib
import pathlib

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc


def mixed():
    """Normalization, attention (einsum) and a loop, all layers named."""
    keras.utils.set_random_seed(3)
    image = keras.Input((6, 6, 3), name="image")
    x = L.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(image)
    x = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(x))
    y = L.LayerNormalization(name="layer_norm")(L.SeparableConv2D(4, 3, padding="same", name="separable")(x))
    x = L.Reshape((36, 8), name="rows")(L.Concatenate(name="both")([x, y]))
    x = L.LSTM(5, name="lstm")(L.MultiHeadAttention(2, 4, name="attention")(x, x))
    return keras.Model(image, L.Dense(4, name="scores", activation="softmax")(x))


def plain():
    keras.utils.set_random_seed(3)
    stack = [keras.Input((6, 6, 3), name="image"), L.Conv2D(4, 3, activation="relu", name="conv")]
    return keras.Sequential([*stack, L.MaxPooling2D(name="pool"), L.Flatten(name="flat"), L.Dense(3, name="dense")])


def quantized():
    x = np.random.default_rng(0).normal(size=(16, 6, 6, 3)).astype("float32")
    return tfc.quantize(plain(), "int8", data=x)


CASES = {"mixed": mixed, "quantized": quantized}


def digests(folder):
    """Return the digest of each case in each format."""
    found = {}
    for name, build in CASES.items():
        for suffix in ("tflite", "onnx"):
            path = pathlib.Path(folder) / f"{name}.{suffix}"
            tfc.export(build(), path, overwrite=True, verify=False, batch_size=1)
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_again_in_the_same_process(suffix, tmp_path):
    model = mixed()
    first, second = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    for path in (first, second):
        tfc.export(model, path, verify=False)
    assert first.read_bytes() == second.read_bytes()
