"""Small models that between them hold everything that quantization has a rule for."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.layers import ResidualBlock, Scaled
from tests.once import once


def _random_statistics(model: keras.Model, seed: int = 3) -> keras.Model:
    """Give batch normalization statistics and scales (some negative) that are not those of a new layer."""
    generator = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, L.BatchNormalization):
            for name, low, high in (
                ("gamma", -1.5, 1.5),
                ("beta", -0.3, 0.5),
                ("moving_mean", -0.5, 0.5),
                ("moving_variance", 0.5, 2),
            ):
                variable = getattr(layer, name)
                variable.assign(generator.uniform(low, high, variable.shape))
    return model


def residual() -> keras.Model:
    """Convolutions with BN, a separable one, swish, an addition, BN alone, a concatenation, pooling, softmax."""
    inputs = keras.Input((12, 12, 3), name="image")
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = L.BatchNormalization(name="stem_norm")(x)
    x = L.ReLU(name="stem_relu")(x)
    y = L.SeparableConv2D(8, 3, padding="same", activation="silu", name="separable")(x)
    x = L.Add(name="sum")([x, y])
    x = L.BatchNormalization(name="lone_norm")(x)
    x = L.Activation("relu", name="lone_relu")(x)
    z = L.Conv2D(4, 1, activation="relu6", name="side")(x)
    x = L.Concatenate(name="joined")([x, z])
    x = L.MaxPooling2D(name="pool")(x)
    x = L.GlobalAveragePooling2D(name="gap")(x + 1.0)
    return _random_statistics(keras.Model(inputs, L.Dense(5, activation="softmax", name="probabilities")(x)))


def transformer() -> keras.Model:
    """Embedding, attention, layer normalization, GELU."""
    inputs = keras.Input((6,), dtype="int32", name="tokens")
    x = L.Embedding(20, 8, name="table")(inputs)
    x = L.LayerNormalization(name="norm")(x + L.MultiHeadAttention(2, 4, name="attention")(x, x))
    x = x + L.Dense(8, name="down")(L.Dense(16, activation="gelu", name="up")(x))
    return keras.Model(inputs, L.Dense(3, name="logits")(L.GlobalAveragePooling1D()(x)))


def two_heads() -> keras.Model:
    """Two inputs, a shared layer, Maximum, ELU, and a dict of two outputs."""
    image, other = keras.Input((10, 10, 1), name="image"), keras.Input((5,), name="meta")
    shared = L.Conv2D(4, 3, strides=2, activation="relu", name="shared")
    x = L.Flatten()(L.Maximum()([shared(image), shared(image * 0.5)]))
    x = L.Concatenate()([x, L.Dense(8, activation="elu", name="elu")(other)])
    outputs = {"class": L.Dense(4, activation="softmax", name="c")(x), "value": L.Dense(1, name="v")(x)}
    return keras.Model([image, other], outputs)


def mobile() -> keras.Model:
    """Rescaling and normalization first, padding, depthwise, ReLU6, MobileNetV3's hard sigmoid, transposed, slicing."""
    inputs = keras.Input((13, 11, 3), name="pixels")
    x = L.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 1.0, 2.0])(L.Rescaling(0.5, offset=-0.1)(inputs))
    x = L.DepthwiseConv2D(3, strides=2, depth_multiplier=2, use_bias=False)(L.ZeroPadding2D(((1, 0), (0, 1)))(x))
    x = L.ReLU(6.0)(L.BatchNormalization()(x))
    gate = L.ReLU(6.0)(L.Conv2D(6, 1)(x) + 3.0) * (1.0 / 6.0)
    x = L.Multiply()([x, gate])
    x = L.Conv2DTranspose(5, 3, strides=2, padding="same", activation="hard_silu")(x)
    x = L.AveragePooling2D(2)(L.UpSampling2D(2)(x))[:, 1:, :, :]
    x = L.GlobalMaxPooling2D()(L.PReLU(shared_axes=[1, 2])(L.LeakyReLU()(x)))
    return _random_statistics(keras.Model(inputs, L.Dense(3, name="logits")(x)))


def nested() -> keras.Model:
    """A nested model that is called twice, Average, operators with constants, tanh, a custom layer."""
    inner = keras.Sequential(
        [keras.Input((6,)), L.Dense(8, activation="silu"), L.BatchNormalization(), L.Dense(6)], name="inner"
    )
    inputs = keras.Input((6,), name="features")
    x = L.Average()([inner(inputs), inner(inputs * 2.0)])
    x = L.Activation("tanh")(1.0 - x / 3.0)
    return _random_statistics(keras.Model(inputs, L.Dense(2, activation="sigmoid", name="out")(Scaled(4)(x))))


def recurrent() -> keras.Model:
    """A causal convolution, a bidirectional LSTM and a GRU."""
    inputs = keras.Input((7, 4), name="sequence")
    x = L.Conv1D(6, 3, padding="causal", activation="relu")(inputs)
    x = L.GRU(4)(L.Bidirectional(L.LSTM(3, return_sequences=True))(x))
    return keras.Model(inputs, L.Dense(2, name="out")(x))


class _Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.conv = L.Conv2D(6, (3, 2), padding="same", use_bias=False)
        self.norm = L.BatchNormalization()
        self.block = ResidualBlock(6)
        self.head = L.Dense(3)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = ops.leaky_relu(self.norm(self.conv(inputs), training=training))
        return self.head(ops.mean(self.block(x, training=training), axis=(1, 2)))


def subclassed() -> keras.Model:
    """A subclassed model with a composite layer and operations of keras.ops."""
    model = _Subclassed()
    model(np.zeros((1, 7, 9, 3), "float32"))
    return _random_statistics(model)


ZOO = {f.__name__: f for f in (residual, transformer, two_heads, mobile, nested, recurrent, subclassed)}


def build(name: str) -> keras.Model:
    """Return the model of that name, seeded."""
    keras.utils.set_random_seed(11)
    return ZOO[name]()


def data_of(model: keras.Model, samples: int = 48, seed: int = 0) -> Any:
    """Return seeded inputs for a model of the zoo."""
    generator = np.random.default_rng(seed)
    if not getattr(model, "inputs", None):
        return generator.normal(size=(samples, 7, 9, 3)).astype("float32")
    arrays = {}
    for x in model.inputs:
        shape = (samples, *x.shape[1:])
        whole = "int" in keras.backend.standardize_dtype(x.dtype)
        arrays[x.name] = generator.integers(0, 20, shape).astype("int32") if whole else generator.normal(size=shape)
    arrays = {name: array if array.dtype == "int32" else array.astype("float32") for name, array in arrays.items()}
    return arrays if len(arrays) > 1 else next(iter(arrays.values()))


def outputs_of(model: keras.Model, x: Any) -> dict[str, np.ndarray]:
    """Return what a model computes, by output; eagerly, since tracing `predict` takes longer than a test should."""
    made = keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))
    return made if isinstance(made, dict) else {"output": made}


@once
def quantized(name: str, recipe: str = "int8") -> keras.Model:
    """Return a model of the zoo, quantized after a recipe with its data."""
    model = build(name)
    return tfc.quantize(model, recipe, data_of(model))
