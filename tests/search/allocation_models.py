"""Small models that layers of are given widths."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as L

from tests.once import once

CLASSES = 5


def odd_model():
    """Return a model with a shared layer, two outputs, a depthwise convolution and batch normalization."""
    x = inputs = keras.Input((10, 10, 3), name="x")
    x = L.Conv2D(24, 3, padding="same", use_bias=False, name="conv")(x)
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    x = L.Conv2D(24, 1, activation="relu", name="pixels")(L.DepthwiseConv2D(3, name="depthwise")(x))
    shared = L.Dense(24, activation="relu", name="shared")
    x = shared(shared(L.GlobalAveragePooling2D()(x)))
    outputs = [L.Dense(CLASSES, activation="softmax", name="classes")(x), L.Dense(2, name="place")(x)]
    return keras.Model(inputs, outputs)


def images(count=48):
    return np.random.default_rng(1).normal(size=(count, 10, 10, 3)).astype("float32")


def clusters(count=512):
    """Return points around as many centres as there are classes, and which each is around."""
    generator = np.random.default_rng(2)
    y = generator.integers(0, CLASSES, count)
    centres = generator.normal(size=(CLASSES, 12))
    return (centres[y] + generator.normal(size=(count, 12))).astype("float32"), y


@once
def trained_model():
    """Return a trained model of logits of `clusters`, compiled."""
    layers = [L.Dense(32, "relu", name="a"), L.Dense(24, "relu", name="b"), L.Dense(CLASSES, name="c")]
    model = keras.Sequential([keras.Input((12,)), *layers])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = clusters()
    model.fit(x, y, epochs=15, batch_size=32, verbose=0)
    return model
