"""Models for the tests of precision."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as L
from keras import ops

from tests.check import ON_TENSORFLOW

# JAX has no float16 attention on a CPU.
HALF = "mixed_float16" if ON_TENSORFLOW else "mixed_bfloat16"
DTYPE = HALF.removeprefix("mixed_")


def floats(*shape, seed=0, scale=1.0):
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype("float32")


def cnn():
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.Rescaling(0.5, name="rescaling")(inputs)
    x = L.Conv2D(6, 3, padding="same", name="first")(x)
    x = L.BatchNormalization(name="norm")(x)
    x = L.ReLU(name="relu")(x)
    x = x + L.Conv2D(6, 3, padding="same", name="second")(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    x = L.Dense(8, activation="softmax", name="gate")(x)
    x = L.Dense(5, name="logits")(x)
    return keras.Model(inputs, L.Softmax(name="probabilities")(x), name="cnn")


def mlp(units=6):
    layers = [keras.Input((8,), name="x"), L.Dense(units, activation="relu", name="hidden"), L.Dense(3, name="logits")]
    return keras.Sequential(layers, name="mlp")


def transformer():
    inputs = keras.Input((6, 8), name="tokens")
    x = inputs + L.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    x = L.LayerNormalization(name="norm")(x)
    x = L.Dense(8, name="narrow")(L.Dense(16, activation="gelu", name="wide")(x))
    return keras.Model(inputs, L.Dense(3, name="logits")(L.GlobalAveragePooling1D(name="pool")(x)))


def two_outputs():
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((5,), dtype="int32", name="b")}
    words = L.LSTM(4, name="lstm")(L.Embedding(12, 4, name="embedding")(inputs["b"]))
    shared = L.Dense(4, activation="relu", name="shared")
    both = L.Concatenate(name="both")([shared(inputs["a"]), shared(words)])
    return keras.Model(inputs, {"scores": L.Dense(2, name="scores")(both), "size": L.Dense(1, name="size")(both)})


def inputs_of(model, samples=8, seed=0):
    """Return random data for each input of a functional model."""
    random = np.random.default_rng(seed)

    def draw(x):
        shape = (samples, *x.shape[1:])
        return random.integers(0, 12, shape).astype("int32") if "int" in x.dtype else floats(*shape, seed=seed)

    return keras.tree.map_structure(draw, model._inputs_struct if hasattr(model, "_inputs_struct") else model.inputs[0])


def precisions(model):
    layers = [layer for layer in model.layers if not isinstance(layer, L.InputLayer)]
    return {layer.name: innermost(layer).compute_dtype for layer in layers}


def innermost(layer):
    return getattr(layer, "innermost", layer)


def predictions(model, x):
    """Return what each output is in float32; on TensorFlow without tracing the model, which takes longer."""
    made = model(x, training=False) if ON_TENSORFLOW else model.predict(x, verbose=0)
    return [np.asarray(ops.cast(y, "float32")) for y in keras.tree.flatten(made)]


def assert_same(model, other, x, tolerance=0.0):
    for a, b in zip(predictions(model, x), predictions(other, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(a).max())
