"""The networks that are quantized, of Keras 3 and, for tfmot, of tf_keras alike."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np

PIXEL = 2 / 255
"""Pixel values 0..255 times this, less 1, are what ResNet-8 computes with."""


def small(module: Any, scale: float | None = None) -> Any:
    """Return the 28x28x1 convolutional network of benchmarks.training, 225,034 parameters.

    Args:
        module: `keras` or `tf_keras`.
        scale: What inputs are multiplied by in the network; `None`: nothing.
    """
    layers = module.layers
    return module.Sequential(
        [
            layers.InputLayer((28, 28, 1)),
            *([layers.Rescaling(scale)] if scale else []),
            layers.Conv2D(32, 3, activation="relu", name="first"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu", name="second"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu", name="hidden"),
            layers.Dense(10, name="logits"),
        ]
    )


def resnet8(module: Any, rescaling: bool = True) -> Any:
    """Return MLPerf Tiny's ResNet-8 for 32x32x3 images, logits out, 78,714 parameters.

    Args:
        module: `keras` or `tf_keras`.
        rescaling: Whether it takes pixel values; tfmot quantizes no such layer.
    """
    layers = module.layers
    inputs = x = module.Input((32, 32, 3))
    if rescaling:
        x = layers.Rescaling(PIXEL, offset=-1)(x)

    def convolution(x: Any, number: int, filters: int, size: int, stride: int) -> Any:
        suffix = f"_{number}" if number else ""
        x = layers.Conv2D(filters, size, stride, padding="same", use_bias=False, name=f"conv2d{suffix}")(x)
        return layers.BatchNormalization(name=f"batch_normalization{suffix}")(x)

    x = layers.ReLU()(convolution(x, 0, 16, 3, 1))
    number = 1
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        before = x
        x = layers.ReLU()(convolution(x, number, filters, 3, stride))
        x = convolution(x, number + 1, filters, 3, 1)
        number += 2
        if stride == 2:
            before = convolution(before, number, filters, 1, stride)
            number += 1
        x = layers.ReLU()(layers.Add()([before, x]))
    x = layers.GlobalAveragePooling2D()(x)
    return module.Model(inputs, layers.Dense(10, name="dense")(x))


def trained_resnet8(folder: pathlib.Path) -> keras.Model:
    """Return the ResNet-8 that was trained on CIFAR-10, without its regularizers."""
    model = resnet8(keras)
    carry_weights(keras.models.load_model(folder / "resnet8_cifar10_jpeg.keras", compile=False), model)
    return model


def carry_weights(source: Any, target: Any) -> None:
    """Set the weights of a network to those of the same one, of either Keras."""
    for layer in source.layers:
        if layer.weights:
            target.get_layer(layer.name).set_weights(layer.get_weights())


def large(name: str) -> keras.Model:
    """Return a network of keras.applications at 224 pixels, with random weights and batch statistics."""
    keras.utils.set_random_seed(0)
    model: keras.Model = getattr(keras.applications, name)((224, 224, 3), weights=None)
    generator = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (w.shape for w in layer.weights)
            layer.set_weights(
                [
                    generator.uniform(0.5, 1.5, gamma),
                    generator.normal(0, 0.1, beta),
                    generator.normal(0, 0.1, mean),
                    generator.uniform(0.5, 1.5, variance),
                ]
            )
    return model
