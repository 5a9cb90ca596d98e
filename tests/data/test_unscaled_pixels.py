"""Pixels from 0 to 255 for a model that was trained on others: who is warned, and who isn't."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.data.unscaled_pixels import are_pixels, warn_of_pixels
from tfcompress.pipeline import Data, fit

MESSAGE = "whole numbers from 0 to 255, as pixels are, for 'image'"


def images(count=32):
    """Two kinds of images, bright above or below, and their classes."""
    y = np.arange(count) % 2
    x = np.random.default_rng(0).integers(0, 120, (count, 6, 6, 1))
    x[y == 0, :3] += 130
    x[y == 1, 3:] += 130
    return x.astype("float32"), y


def normalized(divided_by=1.0, *front):
    """A model with a batch normalization, as it is when it was trained on pixels that are divided by a number."""
    conv, norm = L.Conv2D(4, 3, name="conv"), L.BatchNormalization(name="norm")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6, 6, 1), name="image"), *front, conv, norm, L.Flatten(), L.Dense(2, name="y")], name="net"
    )
    made = np.asarray(conv(images()[0] / divided_by))
    norm.moving_mean.assign(made.mean((0, 1, 2)))
    norm.moving_variance.assign(made.var((0, 1, 2)))
    return model


def classifier(activation, divided_by=1.0):
    """A classifier that is about as sure as training makes one, on pixels that are divided by a number."""
    units = 2 if activation == "softmax" else 1
    model = keras.Sequential(
        [keras.Input((6, 6, 1), name="image"), L.Flatten(), L.Dense(units, activation, name="y")], name="net"
    )
    lower = np.repeat([-1.0, 1.0], 18)[:, None] * divided_by / 255
    model.layers[-1].set_weights([np.concatenate([-lower, lower], axis=1) if units == 2 else lower, np.zeros(units)])
    return model


def not_trained():
    """A model with a batch normalization that has seen nothing."""
    return keras.Sequential([keras.Input((6, 6, 1)), L.Conv2D(4, 3), L.BatchNormalization(), L.Flatten(), L.Softmax()])


def of_an_embedding():
    """A model that looks whole numbers up, whatever comes of that."""
    model = keras.Sequential([keras.Input((36,)), L.Embedding(256, 4), L.Flatten(), L.Dense(2, "softmax")])
    model.layers[-1].kernel.assign(1e6 * model.layers[-1].kernel)
    return model


def said(model, x):
    """Return what is said of samples."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        warn_of_pixels(model, [x])
    return [str(one.message) for one in caught if one.category is UserWarning]


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (lambda: normalized(255.0), "'norm' gets what lies more than 32 deviations off the mean of training"),
        (lambda: normalized(58.0), "'norm'"),
        (lambda: classifier("softmax", 255.0), "the softmax at its end is too sure of itself"),
        (lambda: classifier("softmax", 127.5), "the softmax"),
        (lambda: classifier("sigmoid", 255.0), "the sigmoid"),
    ],
)
def test_a_model_that_wants_smaller_numbers(model, found):
    model, (x, _) = model(), images()
    for given in (x, x.astype("uint8")):
        (message,) = said(model, given)
        assert MESSAGE in message
        assert found in message
        assert "x / 255" in message
    assert said(model, x / 255) == said(model, x * 2) == said(model, x + 0.5) == []


@pytest.mark.parametrize(
    "model",
    [
        lambda: normalized(1.0),
        lambda: normalized(255.0, L.Rescaling(1 / 255)),
        lambda: normalized(255.0, L.Normalization(mean=127.0, variance=60.0**2)),
        lambda: classifier("softmax"),
        lambda: classifier("sigmoid"),
        not_trained,
    ],
)
def test_a_model_that_takes_pixels(model):
    assert said(model(), images()[0]) == []


def test_tables_of_whole_numbers():
    x = np.random.default_rng(0).integers(0, 250, (32, 36)).astype("float32")
    inputs = keras.Input((36,), name="row")
    scaled = L.Normalization(mean=125, variance=5000)(inputs)
    row = keras.Model(inputs, L.Dense(3, "softmax")(L.Dense(8, "relu")(scaled)))
    raw = keras.Sequential([keras.Input((36,)), L.Dense(2, "softmax")])
    raw.layers[-1].set_weights([np.random.default_rng(0).normal(size=(36, 2)) / 255, np.zeros(2)])
    for model in (row, raw, of_an_embedding()):
        assert said(model, x) == []


def test_where_it_is_looked_for():
    model, (x, y) = normalized(255.0), images()
    with pytest.warns(UserWarning, match=MESSAGE) as caught:
        tfc.quantize(model, "int8", data=x)
    assert [one.filename for one in caught if MESSAGE in str(one.message)] == [__file__]
    with pytest.warns(UserWarning, match=MESSAGE):
        tfc.evaluate(model, x, y)
    with pytest.warns(UserWarning, match=MESSAGE):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        fit(model, Data("d", x, y, x, y), loss, epochs=1, batch_size=32, learning_rate=1e-3)


@pytest.mark.parametrize("array", [np.zeros((0, 2)), np.full((2, 2), 300.0), np.full((2, 2), -1.0), np.array(["a"])])
def test_what_are_no_pixels(array):
    assert not are_pixels(array)
