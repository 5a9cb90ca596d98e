"""A small quantized network with everything that a file may get wrong: its layers have names of their own."""

import keras
import numpy as np
from keras import layers

from tests.export.models import randomise
from tfcompress.quantization.quantize import quantize


def data(samples=24):
    return np.random.default_rng(7).uniform(0, 255, (samples, 8, 8, 3)).astype("float32")


def make():
    """Return a float model and data for it: pixels from 0 to 255."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="first")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="active")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = layers.Add(name="sum")([x, y])
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Conv2D(4, 1, activation="relu", name="second")(x)
    flat = layers.Flatten(name="flat")(x)
    model = keras.Model(image, [layers.Dense(5, name="logits")(flat), layers.Dense(2, name="side")(flat)])
    randomise(model)
    model.get_layer("first").kernel.assign(model.get_layer("first").kernel / 100)
    return model, data()


def quantized(config="int8"):
    """Return `make`'s model, quantized."""
    model, x = make()
    return quantize(model, config, x), x
