"""Small models of all the shapes in which channels depend on each other, with the groups that they must have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers as L
from keras import ops

from tests.layers import Scaled

OUTPUT = "it is an output of the model"


@dataclasses.dataclass(frozen=True)
class Network:
    """A model, and for each group of its channels the size, or the reason (a part of it) why none can go.

    `groups` maps the name of a group to (size, reason).
    """

    make: Callable[[], keras.Model]
    groups: dict[str, tuple[int, str | None]]


def plain():
    return keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            L.Conv2D(6, 3, name="a"),
            L.BatchNormalization(name="norm"),
            L.ReLU(name="relu"),
            L.MaxPooling2D(name="pool"),
            L.Conv2D(8, 3, padding="same", activation="relu", name="b"),
            L.Flatten(name="flat"),
            L.Dense(7, activation="tanh", name="c"),
            L.Dense(4, activation="softmax", name="head"),
        ],
        name="plain",
    )


def residual():
    x = inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(6, 3, padding="same", name="stem")(x)
    y = L.Conv2D(5, 3, padding="same", use_bias=False, name="one_a")(x)
    y = L.BatchNormalization(name="one_norm")(y)
    y = L.Conv2D(6, 3, padding="same", name="one_b")(ops.relu(y))
    x = L.ReLU(name="one")(x + y)
    y = L.Conv2D(9, 3, strides=2, padding="same", name="two_a")(x)
    short = L.Conv2D(9, 1, strides=2, name="two_short")(x)
    x = L.Add(name="two")([L.PReLU(shared_axes=[1, 2], name="slopes")(y), short])
    x = L.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, L.Dense(3, name="head")(x), name="residual")


def depthwise():
    x = inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(5, 3, name="a")(x)
    x = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="dw")(x)
    x = L.BatchNormalization(name="norm")(x)
    x = L.Conv2D(6, 1, activation="relu6", name="b")(x)
    x = L.DepthwiseConv2D(3, name="dw2", use_bias=False)(x)
    return keras.Model(inputs, L.Dense(2, name="head")(L.GlobalMaxPooling2D()(x)), name="depthwise")


def squeeze_excite():
    x = inputs = keras.Input((8, 8, 3))
    x = short = L.Conv2D(4, 3, padding="same", name="stem")(x)
    x = L.Conv2D(8, 1, activation="silu", name="expand")(x)
    x = L.DepthwiseConv2D(3, padding="same", activation="hard_silu", name="dw")(x)
    gate = L.Reshape((1, 1, 8))(L.GlobalAveragePooling2D()(x))
    gate = L.Conv2D(3, 1, activation="relu", name="reduce")(gate)
    gate = L.Conv2D(8, 1, activation="sigmoid", name="gate")(gate)
    x = L.Conv2D(4, 1, name="project")(L.Multiply()([x, gate]))
    x = L.Dropout(0.2, seed=1)(x) * 0.5 + short
    return keras.Model(inputs, L.Dense(2, name="head")(ops.mean(x, axis=(1, 2))), name="squeeze_excite")


def concatenated():
    x = inputs = keras.Input((6, 6, 3))
    x = L.Conv2D(4, 3, padding="same", name="a")(x)
    x = L.Concatenate()([x, L.Conv2D(3, 3, padding="same", name="b")(x)])
    x = L.BatchNormalization(name="norm")(x)
    x = L.Concatenate()([x, L.Conv2D(2, 3, padding="same", name="c")(x)])
    x = L.Flatten()(L.AveragePooling2D(2)(x))
    return keras.Model(inputs, L.Dense(2, name="head")(x), name="concatenated")


def partly_added():
    """A sum with a concatenation: the channels of one convolution belong to two groups."""
    x = inputs = keras.Input((6, 6, 3))
    whole = L.Conv2D(7, 1, name="whole")(x)
    parts = L.Concatenate()([L.Conv2D(3, 1, name="first")(x), L.Conv2D(4, 1, name="second")(x)])
    x = L.Conv2D(2, 3, name="head")(whole + parts)
    return keras.Model(inputs, x, name="partly_added")


def grouped():
    x = inputs = keras.Input((6, 6, 3))
    x = L.Conv2D(12, 1, activation="relu", name="a")(x)
    x = L.Conv2D(8, 3, groups=4, name="groups")(x)
    return keras.Model(inputs, L.Dense(2, name="head")(L.Flatten()(x)), name="grouped")


def separable():
    x = inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 1, name="a")(x)
    x = L.SeparableConv2D(6, 3, depth_multiplier=2, padding="same", activation="relu", name="b")(x)
    x = L.SeparableConv2D(5, 3, use_bias=False, name="c")(x)
    return keras.Model(inputs, L.Dense(2, name="head")(L.GlobalAveragePooling2D()(x)), name="separable")


def decoder():
    x = inputs = keras.Input((5,))
    x = L.Dense(3 * 3 * 4, activation="relu", name="code")(x)
    x = L.Reshape((3, 3, 4), name="image")(x)
    x = L.Conv2DTranspose(6, 3, strides=2, padding="same", name="up")(x)
    x = L.UpSampling2D(name="twice")(L.LeakyReLU()(x))
    x = L.Cropping2D(1)(L.ZeroPadding2D(2)(x))
    return keras.Model(inputs, L.Conv2DTranspose(1, 3, name="head")(x), name="decoder")


def transformer():
    inputs = keras.Input((6, 8))
    x = L.Dense(8, name="embed")(inputs)
    y = L.MultiHeadAttention(4, 3, name="mha")(x, x)
    x = L.Add()([x, y])
    y = L.LayerNormalization(name="norm")(x)
    y = L.Dense(8, name="down")(L.Dense(11, activation="gelu", name="up")(y))
    x = L.Add()([x, y])
    return keras.Model(inputs, L.Dense(2, name="head")(x[:, 0]), name="transformer")


def shared_keys():
    inputs = keras.Input((6, 8))
    x = L.GroupQueryAttention(3, 4, 2, name="gqa")(inputs, inputs)
    return keras.Model(inputs, L.Dense(2, name="head")(x), name="shared_keys")


def attention_by_hand():
    inputs = keras.Input((6, 8))

    def heads(name):
        return ops.transpose(ops.reshape(L.Dense(12, name=name)(inputs), (-1, 6, 4, 3)), (0, 2, 1, 3))

    scores = L.Softmax()(ops.matmul(heads("query"), ops.transpose(heads("key"), (0, 1, 3, 2))) / 3**0.5)
    mixed = ops.reshape(ops.transpose(ops.matmul(scores, heads("value")), (0, 2, 1, 3)), (-1, 6, 12))
    return keras.Model(inputs, L.Dense(2, name="head")(mixed), name="attention_by_hand")


def siamese():
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    branch = keras.Sequential(
        [L.Conv2D(5, 3, activation="relu", name="a"), L.Conv2D(4, 3, name="b"), L.GlobalMaxPooling2D()], name="branch"
    )
    x = L.Subtract(name="difference")([branch(left), branch(right)])
    return keras.Model([left, right], L.Dense(1, activation="sigmoid", name="head")(ops.abs(x)), name="siamese")


def nested():
    inner = keras.Sequential([keras.Input((8,)), L.Dense(6, "relu", name="a"), L.Dense(5, name="b")], name="inner")
    inputs = keras.Input((8,))
    x = keras.Sequential([inner, L.BatchNormalization(name="norm")], name="outer")(inputs)
    return keras.Model(inputs, L.Dense(2, name="head")(L.Activation("elu")(x)), name="nested")


def two_outputs():
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(6, 3, name="trunk")(inputs)
    features = L.Conv2D(5, 3, name="features")(x)
    y = L.Conv2D(4, 1, name="side")(x)
    return keras.Model(
        inputs,
        {"features": features, "label": L.Dense(2, name="label")(L.GlobalAveragePooling2D()(y))},
        name="two_outputs",
    )


def words():
    x = inputs = keras.Input((9,), dtype="int32")
    x = L.Embedding(20, 6, name="table")(x)
    x = L.Conv1D(5, 3, padding="causal", activation="relu", name="a")(x)
    x = L.Conv1D(4, 2, dilation_rate=2, name="b")(L.MaxPooling1D()(x))
    x = L.LSTM(3, name="lstm")(x)
    return keras.Model(inputs, L.Dense(2, name="head")(L.Dense(7, name="c")(x)), name="words")


def volume():
    x = inputs = keras.Input((5, 5, 5, 2))
    x = L.Conv3D(4, 2, activation="selu", name="a")(x)
    x = L.Conv3D(5, 2, name="b")(L.AveragePooling3D(2)(x))
    return keras.Model(inputs, L.Dense(2, name="head")(L.GlobalAveragePooling3D()(x)), name="volume")


def custom_between():
    inputs = keras.Input((6,))
    x = L.Dense(5, name="a")(inputs)
    x = L.Dense(4, name="b")(Scaled(3, name="custom")(x))
    x = L.Reshape((2, 2), name="square")(L.Dense(4, name="c")(x))
    x = L.Flatten()(L.Permute((2, 1), name="turned")(x))
    return keras.Model(inputs, L.Dense(2, name="head")(x), name="custom_between")


def blocked():
    """One channel group for each thing that stands against removing channels."""
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 1, name="layer_norm")(inputs)
    x = L.LayerNormalization(name="norm")(x)
    x = L.Conv2D(4, 1, name="group_norm")(x)
    x = L.GroupNormalization(2, name="groups")(x)
    x = L.Conv2D(4, 1, name="soft")(x)
    x = L.Softmax(name="shares")(x)
    x = L.Conv2D(4, 1, name="sliced")(x)
    x = L.Conv2D(4, 1, name="reduced")(x[..., :2])
    x = x * ops.mean(x, axis=-1, keepdims=True)
    x = L.Conv2D(3, 1, name="added")(x) + inputs
    x = L.Conv2D(4, 1, name="constant")(x) + np.arange(4, dtype="float32")
    x = L.Conv2D(4, 1, name="mixed")(x)
    x = L.Reshape((8, 32), name="reshaped")(L.Permute((1, 3, 2))(x))
    x = L.SimpleRNN(4, return_sequences=True, name="timed")(L.Dense(5, name="rows")(x))
    return keras.Model(inputs, L.Dense(2, name="head")(x), name="blocked")


def half():
    with_dtype = {"dtype": "float16"}
    inputs = keras.Input((6, 6, 2), dtype="float16")
    x = L.Conv2D(4, 3, activation="relu", name="a", **with_dtype)(inputs)
    x = L.Dense(5, name="b", **with_dtype)(L.Flatten(**with_dtype)(x))
    return keras.Model(inputs, L.Dense(2, name="head", **with_dtype)(x), name="half")


def random_network(seed: int) -> keras.Model:
    """A few blocks in a random order."""
    generator = np.random.default_rng(seed)

    def gate(x):
        squeezed = L.Dense(3, activation="relu")(L.GlobalAveragePooling2D()(x))
        return L.Multiply()([x, L.Reshape((1, 1, x.shape[-1]))(L.Dense(x.shape[-1], "sigmoid")(squeezed))])

    layers = [
        lambda: L.Conv2D(4, 3, padding="same", activation=str(generator.choice(["relu", "sigmoid", "tanh"]))),
        lambda: L.BatchNormalization(scale=bool(generator.integers(2)), center=bool(generator.integers(2))),
        lambda: L.DepthwiseConv2D(3, padding="same", depth_multiplier=int(generator.integers(1, 3))),
        lambda: L.SeparableConv2D(4, 3, padding="same", depth_multiplier=2),
        lambda: L.Conv2DTranspose(4, 3, padding="same"),
        lambda: L.PReLU(shared_axes=[1, 2]),
    ]
    blocks = [
        gate,
        lambda x: L.Conv2D(5, 3 if x.shape[1] > 3 else 1, use_bias=False)(x),
        lambda x: L.Concatenate()([x, L.Conv2D(3, 1)(x)]),
        lambda x: L.Add()([L.Conv2D(x.shape[-1], 3, padding="same")(x), x]),
        lambda x: L.ZeroPadding2D(1)(L.AveragePooling2D(2, padding="same")(x)),
    ]
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(6, 3, name="stem")(inputs)
    for at in generator.integers(0, len(layers) + len(blocks), 5):
        x = layers[at]()(x) if at < len(layers) else blocks[at - len(layers)](x)
    x = L.Flatten()(x) if generator.integers(2) else L.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, L.Dense(2)(L.Dense(6, "softplus")(x)), name=f"random_{seed}")


NETWORKS: dict[str, Network] = {
    "plain": Network(plain, {"a": (6, None), "b": (8, None), "c": (7, None), "head": (4, OUTPUT)}),
    "residual": Network(residual, {"stem": (6, None), "one_a": (5, None), "two_a": (9, None), "head": (3, OUTPUT)}),
    "depthwise": Network(depthwise, {"a": (5, None), "b": (6, None), "head": (2, OUTPUT)}),
    "squeeze_excite": Network(
        squeeze_excite, {"stem": (4, None), "expand": (8, None), "reduce": (3, None), "head": (2, OUTPUT)}
    ),
    "concatenated": Network(concatenated, {"a": (4, None), "b": (3, None), "c": (2, None), "head": (2, OUTPUT)}),
    "partly_added": Network(partly_added, {"first": (3, None), "second": (4, None), "head": (2, OUTPUT)}),
    "grouped": Network(grouped, {"a": (4, None), "head": (2, OUTPUT)}),
    "separable": Network(separable, {"a": (4, None), "b": (6, None), "c": (5, None), "head": (2, OUTPUT)}),
    "decoder": Network(decoder, {"code": (4, None), "up": (6, None), "head": (1, OUTPUT)}),
    "transformer": Network(
        transformer,
        {
            "embed": (8, "layer 'norm' of class LayerNormalization normalizes over it"),
            "mha_query": (4, None),
            "mha_query_1": (3, None),
            "mha_value": (3, None),
            "up": (11, None),
            "head": (2, OUTPUT),
        },
    ),
    "attention_by_hand": Network(attention_by_hand, {"key": (4, None), "head": (2, OUTPUT)}),
    "shared_keys": Network(
        shared_keys,
        {
            "gqa_value": (2, None),
            "gqa_value_1": (3, None),
            "gqa_key": (3, None),
            "gqa_attention_output": (8, None),
            "head": (2, OUTPUT),
        },
    ),
    "siamese": Network(siamese, {"a": (5, None), "b": (4, None), "head": (1, OUTPUT)}),
    "nested": Network(nested, {"a": (6, None), "b": (5, None), "head": (2, OUTPUT)}),
    "two_outputs": Network(
        two_outputs, {"trunk": (6, None), "side": (4, None), "features": (5, OUTPUT), "label": (2, OUTPUT)}
    ),
    "words": Network(
        words,
        {
            "table": (6, None),
            "a": (5, None),
            "b": (4, "layer 'lstm' of class LSTM is not known to keep channels apart"),
            "c": (7, None),
            "head": (2, OUTPUT),
        },
    ),
    "volume": Network(volume, {"a": (4, None), "b": (5, None), "head": (2, OUTPUT)}),
    "custom_between": Network(
        custom_between,
        {"a": (5, "layer 'custom' of class Scaled"), "b": (4, None), "c": (2, None), "head": (2, OUTPUT)},
    ),
    "blocked": Network(
        blocked,
        {
            "layer_norm": (4, "layer 'norm' of class LayerNormalization normalizes over it"),
            "group_norm": (4, "layer 'groups' of class GroupNormalization normalizes over 2 groups of it"),
            "soft": (4, "layer 'shares' of class Softmax normalizes over it"),
            "sliced": (4, "of class GetItem takes a part of it"),
            "reduced": (4, "of class Mean reduces it"),
            "added": (3, "of class Add combines it with an input of the model"),
            "constant": (4, "of class Add combines it with an input of the model, or with what has no channels"),
            "mixed": (4, None),
            "rows": (5, "layer 'timed' of class SimpleRNN is not known to keep channels apart"),
            "head": (2, OUTPUT),
        },
    ),
    "half": Network(half, {"a": (4, None), "b": (5, None), "head": (2, OUTPUT)}),
}
