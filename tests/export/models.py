"""Small models of every kind that has to export; weights are random, so that a wrong one shows."""

import keras
import numpy as np
from keras import layers, ops

from tfcompress.graph.sample_inputs.input_paths import NOISE
from tfcompress.graph.sample_inputs.samples import draw


def randomise(model, seed=0):
    """Give every weight a random value; variances positive."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if not keras.backend.is_float_dtype(weight.dtype):
            continue
        values = random.normal(0, 0.3, weight.shape)
        if "variance" in weight.path or "gamma" in weight.path:
            values = 0.5 + np.abs(values)
        weight.assign(values)
    return model


def cnn():
    return keras.Sequential(
        [
            keras.Input((12, 12, 3), name="image"),
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax", name="probabilities"),
        ]
    )


def two_in_two_out():
    """Names in no alphabetical order: what sorts them is found out."""
    left = keras.Input((6,), name="zebra")
    right = keras.Input((4,), name="ant")
    both = layers.Concatenate()([layers.Dense(5, activation="tanh")(left), right])
    return keras.Model([left, right], [layers.Dense(3, name="yak")(both), layers.Dense(2, name="bee")(both)])


def dicts():
    inputs = {"tokens": keras.Input((4,), name="tokens"), "extra": keras.Input((2,), name="extra")}
    joined = layers.Concatenate()([inputs["tokens"], inputs["extra"]])
    return keras.Model(inputs, {"score": layers.Dense(1)(joined), "logits": layers.Dense(3)(joined)})


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(6, activation="relu")
        self.drop = layers.Dropout(0.5)
        self.head = layers.Dense(3)

    def call(self, inputs, training=False):
        return self.head(self.drop(self.hidden(inputs), training=training))


def subclassed():
    model = Subclassed()
    model(np.zeros((2, 5), "float32"))
    return model


class SubclassedDict(keras.Model):
    def __init__(self):
        super().__init__()
        self.embed = layers.Embedding(11, 4)
        self.dense = layers.Dense(4)

    def call(self, inputs):
        words = ops.mean(self.embed(inputs["words"]), axis=1)
        return {"total": words + self.dense(inputs["image"]), "words": words}


def subclassed_dict():
    model = SubclassedDict()
    model({"words": np.zeros((1, 7), "int32"), "image": np.zeros((1, 3), "float32")})
    return model


def nested():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(4, activation="relu"), layers.BatchNormalization()])
    inputs = keras.Input((6,), name="features")
    twice = layers.Add()([inner(inputs), inner(inputs * 2.0)])
    return keras.Model(inputs, layers.Dense(2, name="head")(twice))


def lstm():
    return keras.Sequential([keras.Input((5, 4), name="steps"), layers.LSTM(6), layers.Dense(2, name="head")])


def gru():
    return keras.Sequential(
        [keras.Input((5, 4), name="steps"), layers.GRU(6, return_sequences=True), layers.GRU(3, name="last")]
    )


def bidirectional():
    return keras.Sequential(
        [
            keras.Input((5, 4), name="steps"),
            layers.Bidirectional(layers.LSTM(4)),
            layers.Dense(2, name="head"),
        ]
    )


def attention():
    inputs = keras.Input((6, 8), name="sequence")
    mixed = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    x = layers.LayerNormalization()(inputs + mixed)
    hidden = layers.Dense(16, activation="gelu")(x)
    return keras.Model(inputs, layers.LayerNormalization(name="out")(x + layers.Dense(8)(hidden)))


def exact_gelu():
    inputs = keras.Input((8,), name="x")
    return keras.Model(inputs, ops.gelu(layers.Dense(8)(inputs), approximate=False))


def captured_constant():
    """Like EfficientNet: a Normalization of given statistics, and a constant that no layer owns."""
    inputs = keras.Input((4, 4, 3), name="image")
    x = layers.Rescaling(1 / 255.0)(inputs)
    x = layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.05, 0.06, 0.07])(x)
    x = x + ops.convert_to_tensor(np.array([0.1, -0.2, 0.3], "float32"))
    return keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(x)))


def embedding():
    inputs = keras.Input((6,), dtype="int32", name="ids")
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.Flatten()(layers.Embedding(9, 4)(inputs))))


def transpose():
    inputs = keras.Input((5, 5, 2), name="image")
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(inputs)
    return keras.Model(inputs, layers.Conv2DTranspose(1, 3, name="mask")(x))


def augmented():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.RandomFlip(),
            layers.RandomRotation(0.1),
            layers.GaussianNoise(0.5),
            layers.Conv2D(4, 3),
            layers.SpatialDropout2D(0.5),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(3, name="head"),
        ]
    )


def convolutions():
    inputs = keras.Input((16, 4), name="signal")
    x = layers.SeparableConv1D(6, 3, activation="relu")(inputs)
    x = layers.Conv1D(4, 3, dilation_rate=2, padding="causal")(x)
    return keras.Model(inputs, layers.GlobalMaxPooling1D(name="peak")(layers.PReLU(shared_axes=[1])(x)))


MODELS = [
    cnn,
    two_in_two_out,
    dicts,
    subclassed,
    subclassed_dict,
    nested,
    lstm,
    gru,
    bidirectional,
    attention,
    exact_gelu,
    captured_constant,
    embedding,
    transpose,
    augmented,
    convolutions,
]


def inputs_for(specs, words=2, samples=2):
    """Random samples for the inputs of a file, free sizes being 32."""
    random = np.random.default_rng(0)
    shapes = {
        name: (samples, *(size or 32 for size in spec.shape[1:])) if spec.shape else () for name, spec in specs.items()
    }
    return {name: draw(shapes[name], spec.dtype, NOISE, random, words) for name, spec in specs.items()}
