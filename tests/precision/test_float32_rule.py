"""What stays float32, and that the reason is said."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.precision import networks
from tests.precision.networks import DTYPE, HALF, floats, precisions, predictions
from tfcompress.precision import float32_rule
from tfcompress.precision.explain import BY_HAND

pytestmark = pytest.mark.filterwarnings("ignore:mixed_float16 is slow on a CPU:UserWarning")


def between(*layers, shape=(8,)):
    """Return a model of layers between two dense ones, so that they make no output."""
    inputs = x = keras.Input(shape)
    x = L.Dense(shape[-1], name="before")(x)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, L.Dense(2, name="after")(x))


def reasons(model, policy=HALF, **how):
    return {row.layer: row.why for row in tfc.explain(tfc.mixed_precision(model, policy, **how)).rows}


def test_of_a_network():
    found = reasons(networks.cnn())
    assert {name for name, why in found.items() if not why} == {"first", "norm", "relu", "second", "add", "pool"}
    assert found["rescaling"] == float32_rule.RAW
    assert found["gate"] == found["probabilities"] == float32_rule.SOFTMAX
    assert found["logits"] == float32_rule.OUTPUT


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (L.Dense(8, activation="relu"), ""),
        (L.BatchNormalization(), ""),
        (L.LayerNormalization(), ""),
        (L.GroupNormalization(2), ""),
        (L.RMSNormalization(), ""),
        (L.UnitNormalization(), float32_rule.NORM),
        (L.Softmax(), float32_rule.SOFTMAX),
        (L.Dense(8, activation="softmax"), float32_rule.SOFTMAX),
        (L.Activation("exponential"), float32_rule.SOFTMAX),
        (L.Dense(8, activity_regularizer="l2"), float32_rule.LOSS),
        (L.ActivityRegularization(l2=0.1), float32_rule.LOSS),
        (L.Rescaling(2.0), float32_rule.RAW),
        (L.Lambda(lambda x: x * 2), float32_rule.CODE),
        (L.SpectralNormalization(L.Dense(8)), float32_rule.NORM),
        (ops.relu, ""),
        (ops.softmax, float32_rule.NEEDS_RANGE),
        (ops.exp, float32_rule.NEEDS_RANGE),
        (lambda x: ops.sum(x, axis=-1, keepdims=True), float32_rule.NEEDS_RANGE),
        (lambda x: ops.mean(x, axis=-1, keepdims=True), ""),
        (lambda x: x * 1e5, float32_rule.CONSTANT if HALF == "mixed_float16" else ""),
        (lambda x: ops.minimum(x, 6.0), ""),
    ],
)
def test_of_a_layer_or_operation(layer, why):
    rows = tfc.explain(tfc.mixed_precision(between(layer), HALF)).rows
    assert [row.why for row in rows] == ["", why, float32_rule.OUTPUT]
    assert [row.precision for row in rows] == [DTYPE, "float32" if why else DTYPE, "float32"]


def test_a_mask_of_large_numbers_is_no_nan():
    """(1 - mask) * -1e9: in float16 that is 0 times minus infinity."""
    inputs = keras.Input((8,))
    mask = L.Dense(8, activation="relu", kernel_initializer="zeros", bias_initializer="ones", name="mask")(inputs)
    scores = L.Dense(8)(inputs) + (1.0 - mask) * -1e9
    model = keras.Model(inputs, L.Dense(2)(L.Softmax()(scores)))
    mixed = tfc.mixed_precision(model, HALF)
    got, wanted = predictions(mixed, floats(4, 8))[0], predictions(model, floats(4, 8))[0]
    assert np.all(np.isfinite(got))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    "make", [L.BatchNormalization, L.LayerNormalization, L.GroupNormalization, L.RMSNormalization, L.UnitNormalization]
)
def test_statistics_of_numbers_whose_squares_float16_cannot_hold(make):
    layer = make(2) if make is L.GroupNormalization else make()
    model = keras.Sequential([keras.Input((8,)), L.Dense(8, name="before"), layer, L.Dense(2)])
    model.layers[0].kernel.assign(np.eye(8) * 3000)
    mixed, x = tfc.mixed_precision(model, HALF), floats(64, 8)
    part = keras.Model(mixed.inputs[0], mixed.layers[2].output)
    wanted = keras.Model(model.inputs[0], model.layers[1].output)
    if isinstance(layer, L.BatchNormalization):  # its statistics in training
        for each in (model, mixed):
            each.compile(keras.optimizers.SGD(0.0), "mse")
            each.fit(x, np.zeros((64, 2)), batch_size=64, epochs=3, verbose=0)
        np.testing.assert_allclose(mixed.layers[2].moving_variance, model.layers[1].moving_variance, rtol=2e-2)
        assert float(ops.max(mixed.layers[2].moving_variance)) > 65504
    got = predictions(part, x)[0]
    np.testing.assert_allclose(got, predictions(wanted, x)[0], rtol=0, atol=2e-2 * np.abs(got).max())


def test_outputs_in_the_middle_and_sums_at_the_end():
    inputs = keras.Input((8,))
    features = L.Dense(8, name="features")(inputs)
    branch = L.Dense(8, name="branch")(features)
    model = keras.Model(inputs, [L.Flatten(name="flat")(features), L.Add(name="sum")([features, branch])])
    assert reasons(model) == {
        "features": float32_rule.OUTPUT,
        "flat": float32_rule.OUTPUT,
        "branch": "",
        "sum": float32_rule.OUTPUT,
    }


def test_attention():
    assert reasons(networks.transformer())["attention_query"] == ""

    def masked(dropout):
        ids = keras.Input((5,), dtype="int32")
        x = L.Embedding(9, 8, mask_zero=True, name="embedding")(ids)
        x = L.MultiHeadAttention(2, 4, dropout=dropout, name="attention")(x, x)
        return keras.Model(ids, L.Dense(2, name="last")(L.GlobalAveragePooling1D()(x)))

    assert reasons(masked(0.0), "mixed_bfloat16")["attention"] == ""
    assert reasons(masked(0.1), "mixed_bfloat16")["attention"] == float32_rule.SOFTMAX


def test_attention_whose_softmax_is_not_that_of_the_fused_kernel():
    ids = keras.Input((5,), dtype="int32")
    x = L.Embedding(9, 8, mask_zero=True)(ids)
    x, scores = L.MultiHeadAttention(2, 4, name="attention")(x, x, return_attention_scores=True)
    pooled = L.GlobalAveragePooling1D()(x)
    model = keras.Model(ids, L.Dense(2)(L.Concatenate()([pooled, ops.reshape(scores, (-1, 50))])))
    assert reasons(model, "mixed_bfloat16")["attention"] == float32_rule.SOFTMAX


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("first", ["first"]),
        ("fir.*|second", ["first", "second"]),
        (["first", L.BatchNormalization], ["first", "norm"]),
        (L.Conv2D, ["first", "second"]),
        (lambda layer: isinstance(layer, L.ReLU), ["relu"]),
        ("add", ["add"]),
    ],
)
def test_keep_float32_adds_to_it(keep, kept):
    model = networks.cnn()
    plain, more = (precisions(tfc.mixed_precision(model, HALF, keep_float32=given)) for given in (None, keep))
    assert [name for name in plain if plain[name] != more[name]] == [name for name in kept if name != "add"]
    found = reasons(model, keep_float32=keep)
    assert {found[name] for name in kept} == {"what it is given is float32" if kept == ["add"] else BY_HAND}


@pytest.mark.parametrize(
    ("keep", "error", "message"),
    [
        ("frist", ValueError, "`keep_float32` to match.*'frist'.*'first'"),
        (L.LSTM, ValueError, "LSTM, a class of none of them.*Conv2D"),
        (3, TypeError, "Expected `keep_float32` to be"),
        ("(", ValueError, "regular expressions in `keep_float32`"),
    ],
)
def test_keep_float32_that_means_nothing(keep, error, message):
    with pytest.raises(error, match=message):
        tfc.mixed_precision(networks.cnn(), "mixed_bfloat16", keep_float32=keep)


def test_the_table():
    text = str(tfc.explain(tfc.mixed_precision(networks.cnn(), "mixed_bfloat16")))
    assert "6 of 10 in 16 bits" in text
    assert "sees raw data" in text
