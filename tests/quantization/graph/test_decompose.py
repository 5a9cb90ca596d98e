"""What lowering splits computes the same, and keeps its weights and their masks."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.quantization.zoo import ZOO, build, data_of, outputs_of
from tfcompress.core.transform import read
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.graph import rebuild
from tfcompress.graph.rewrite import calls
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.decompose import lower

CLOSE = {"rtol": 0, "atol": 2e-5}


def kinds(model):
    return [name_of(call.operation) for call in calls(model)]


@pytest.mark.parametrize("name", ZOO)
def test_the_numbers_stay(name):
    model = build(name)
    x = data_of(model)
    expected = outputs_of(model, x)
    for label, values in outputs_of(lower(rebuild(model)).model(), x).items():
        np.testing.assert_allclose(values, expected[label], **CLOSE)


def one(layer, shape=(8, 8, 4), **how):
    inputs = keras.Input(shape)
    return rebuild(keras.Model(inputs, layer(inputs), **how))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: L.Conv2D(3, 3, activation="relu"), ["conv2d", "relu"]),
        (lambda: L.Conv2D(3, 3, activation="swish"), ["conv2d", "sigmoid", "multiply"]),
        (lambda: L.Dense(3, activation="hard_silu"), ["dense", "hardsigmoid", "multiply"]),
        (lambda: L.Dense(3, activation="softmax"), ["dense", "softmax"]),
        (lambda: L.SeparableConv2D(3, 3, activation="relu"), ["depthwiseconv2d", "conv2d", "relu"]),
        (lambda: L.Activation("silu"), ["sigmoid", "multiply"]),
        (lambda: L.Dense(3), ["dense"]),
    ],
)
def test_what_is_split(layer, expected):
    assert kinds(lower(one(layer()))) == expected


def test_an_activation_of_ones_own_gets_a_name_that_tensorflow_takes():
    x = keras.Input((4,))
    hidden = L.Dense(3, activation=lambda x: 2 * keras.ops.tanh(x), name="angle")(x)
    lowered = lower(rebuild(keras.Model(x, L.Dense(1)(hidden)))).model()
    assert lowered.layers[2].name == "angle_lambda"
    assert lowered.predict(np.zeros((2, 4)), verbose=0).shape == (2, 1)  # as a graph, which checks names


def test_attention_becomes_products_and_a_softmax():
    made = kinds(lower(rebuild(build("transformer"))))
    assert "dotproductattention" not in made
    assert made.count("matmul") == 2 and made.count("softmax") == 1


def test_mobilenets_hard_sigmoid_is_recognized():
    made = kinds(lower(rebuild(build("mobile"))))
    assert made.count("hardsigmoid") == 2 and "relu6" not in made


def test_masked_attention_is_left_whole():
    x = keras.Input((5, 8))
    model = rebuild(keras.Model(x, L.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)))
    assert "matmul" not in kinds(lower(model))


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: L.Rescaling(1 / 127.5, offset=-1.0),
        lambda: L.Normalization(mean=100.0, variance=900.0),
        L.BatchNormalization,
        lambda: lambda x: x / 255.0,
        lambda: lambda x: 0.5 - x,
    ],
    ids=["rescaling", "normalization", "batch norm", "quotient", "difference"],
)
def test_whole_numbers_are_made_real_before_an_affine_map(layer, dtype):
    inputs = keras.Input((4, 4, 3), dtype=dtype)
    model = keras.Model(inputs, layer()(inputs))
    lowered = lower(rebuild(model)).model()
    assert kinds(lowered)[0] == "cast" and len(kinds(lowered)) == 2
    assert calls(lowered)[0].operation.name.endswith("_cast")
    x = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype(dtype)
    np.testing.assert_allclose(lowered.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)


def test_layers_that_are_not_meant_stay_whole():
    model = one(L.SeparableConv2D(3, 3, activation="relu", name="kept"))
    assert kinds(lower(model, lambda layer: layer.name != "kept")) == ["separableconv2d"]


def test_masks_go_with_the_weights_of_a_separable_convolution():
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, L.SeparableConv2D(6, 3, name="s")(inputs))
    pruned = tfc.prune(model, 0.5)
    pruned.compile("sgd", "mse")
    pruned.fit(np.ones((4, 8, 8, 4)), np.ones((4, 6, 6, 6)), verbose=0)
    masks = [read(t.mask) for _, t in wrapped_layers(pruned)[0].transforms]
    lowered = lower(rebuild(pruned)).model()
    parts = wrapped_layers(lowered)
    assert [part.name for part in parts] == ["s_depthwise", "s_pointwise"]
    for part, mask in zip(parts, masks, strict=True):
        np.testing.assert_array_equal(read(part.transforms[0][1].mask), mask)
        assert int(read(part.step)) == 1
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    np.testing.assert_allclose(lowered.predict(x, verbose=0), pruned.predict(x, verbose=0), **CLOSE)
