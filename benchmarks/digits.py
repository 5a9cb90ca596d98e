"""A digit classifier in one QR code: a network for MNIST with weights of 4 bits, as an ONNX file of 2,953 bytes."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data
from benchmarks.files import Folder, accuracy, outputs
from benchmarks.harness import Setting, clocks, collected, mean_and_each, save, show

MOST = 2953
"""Bytes that a QR code holds, of version 40 with the least correction of errors."""
SEEDS = (0, 1, 2)
CHANNELS = (8, 12, 17)
"""Of the convolutions before the last: what fits into `MOST` bytes."""
BITS = 4
OPSET = 21
"""The first with INT4."""
BATCH = 256
FLOAT_EPOCHS, FLOAT_RATE = 24, 1e-2
EPOCHS, RATE = 12, 3e-3
"""With quantized weights."""
LAST = 0.02
"""What the rates fall to, as a part of the first one."""
EPSILON = 1e-3
"""Of batch normalization."""

VARIANTS = 10
"""Of each image that are trained on."""
ANGLE, SHEAR, SCALE, SHIFT = 0.1, 0.075, 0.065, 1.0
"""Radians, parts and pixels by which an image is changed at most."""


def digits(setting: Setting) -> None:
    """Train for each seed, write the file, measure; print and save. Each seed is kept as soon as it is done."""
    train, (x, y) = data.mnist(setting.data)
    folder = Folder(setting.cache / "digits")
    images = _augmented(folder.path / "images.npy", train[0][..., 0])
    samples = Samples(images, train[1].astype(np.int32))
    pixels = _scaled(x[..., 0])

    def run(seed: int) -> dict[str, Any]:
        begun = clocks()[1]
        keras.utils.set_random_seed(seed)
        model = network(normalized=True)
        samples.fit(model, FLOAT_EPOCHS, FLOAT_RATE, seed)
        folded = without_normalization(model)
        config = tfc.QuantizeConfig(tfc.WeightSpec(bits=BITS, range="learned", granularity="per_tensor"), None)
        quantized = tfc.quantize(folded, config)
        samples.fit(quantized, EPOCHS, RATE, seed + 1)
        path = folder.name(f"seed {seed}", ".onnx")
        artifact = tfc.export(quantized, path, weights="coded", opset=OPSET, overwrite=True, verify=pixels[:BATCH])
        if artifact.nbytes > MOST:
            raise ValueError(f"Expected a file of at most {MOST} bytes. Received: {artifact.nbytes}.")
        scores = outputs(path, pixels)
        return {
            "bytes": artifact.nbytes,
            "float %": round(accuracy(outputs(folded, pixels), y), 2),
            "Keras %": round(accuracy(outputs(quantized, pixels), y), 2),
            "ONNX Runtime %": round(accuracy(scores, y), 2),
            "processor s": round(clocks()[1] - begun),
        }

    runs = [
        collected("compression_digits_runs", setting.command, {"seed": seed}, lambda seed=seed: run(seed))
        for seed in SEEDS
    ]
    rows = [
        {
            "weights": f"{parameters(network(normalized=False)):,} of {BITS} bits",
            "bytes": max(one["bytes"] for one in runs),
            **{key: mean_and_each([one[key] for one in runs]) for key in ("float %", "Keras %", "ONNX Runtime %")},
            "processor s": round(np.mean([one["processor s"] for one in runs])),
        }
    ]
    show("A digit classifier in one QR code, MNIST's 10,000 test images", rows)
    save("compression_digits", rows, setting.command)


def network(*, normalized: bool) -> keras.Model:
    """Return three convolutions and one in place of a dense layer; images (1, 28, 28) from 0 to 1 in, logits out.

    Channels stand first, as ONNX has them: so nothing has to be moved in the file.

    Args:
        normalized: Whether batch normalization follows the pools; else convolutions have biases.
    """
    layers = keras.layers
    inputs = keras.Input((1, 28, 28), name="x")
    x = layers.Permute((2, 3, 1))(inputs)
    for place, channels in enumerate(CHANNELS):
        kernel = {"kernel_initializer": "he_normal", "use_bias": not normalized}
        x = layers.Conv2D(channels, 3, name=f"convolution_{place}", **kernel)(x)
        if place < 2:
            x = layers.MaxPooling2D()(x)
        if normalized:
            positive = keras.constraints.NonNeg()
            name = f"normalization_{place}"
            x = layers.BatchNormalization(momentum=0.9, epsilon=EPSILON, gamma_constraint=positive, name=name)(x)
        x = layers.ReLU()(x)
    x = layers.Conv2D(10, 3, use_bias=False, name="classes")(x)
    return keras.Model(inputs, layers.Flatten(name="y")(x))


def without_normalization(model: keras.Model) -> keras.Model:
    """Return the network with batch normalization in its kernels: scales are positive, so that pools don't matter."""
    folded = network(normalized=False)
    for place in range(len(CHANNELS)):
        gamma, beta, mean, variance = model.get_layer(f"normalization_{place}").get_weights()
        (kernel,) = model.get_layer(f"convolution_{place}").get_weights()
        scale = gamma / np.sqrt(variance + EPSILON)
        folded.get_layer(f"convolution_{place}").set_weights([kernel * scale, beta - mean * scale])
    folded.get_layer("classes").set_weights(model.get_layer("classes").get_weights())
    return folded


def parameters(model: keras.Model) -> int:
    """Return how many weights a model has, without biases."""
    return sum(int(np.prod(x.shape)) for x in model.trainable_variables if len(x.shape) > 1)


@dataclasses.dataclass(frozen=True)
class Samples:
    """What is trained on.

    Attributes:
        images: uint8 (variants, n, 28, 28): an epoch has one variant of each.
        labels: (n,).
    """

    images: np.ndarray
    labels: np.ndarray

    def fit(self, model: keras.Model, epochs: int, rate: float, seed: int) -> None:
        """Train a model with Adam; the rate falls along half a cosine."""
        steps = len(self.labels) // BATCH
        schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * steps, alpha=LAST)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"], jit_compile=False)
        model.fit(self.batches(epochs, seed), epochs=epochs, steps_per_epoch=steps, verbose=2)

    def batches(self, epochs: int, seed: int) -> Iterator[data.Arrays]:
        """Yield pixels from 0 to 1, float32 (BATCH, 1, 28, 28), and labels."""
        generator = np.random.default_rng(seed)
        for epoch in range(epochs):
            images = np.asarray(self.images[epoch % len(self.images)])
            order = generator.permutation(len(self.labels))
            for start in range(0, len(order) - BATCH + 1, BATCH):
                chosen = order[start : start + BATCH]
                yield _scaled(images[chosen]), self.labels[chosen]


def _scaled(images: np.ndarray) -> np.ndarray:
    """Return pixels from 0 to 1, the one channel first."""
    return images[:, None].astype(np.float32) / np.float32(255)


def _augmented(path: pathlib.Path, images: np.ndarray) -> np.ndarray:
    """Return variants of images, which a file keeps: uint8 (VARIANTS, n, 28, 28)."""
    if not path.exists():
        made = np.empty((VARIANTS, *images.shape), np.uint8)
        for variant in range(VARIANTS):
            generator = np.random.default_rng(variant)
            for start in range(0, len(images), 1000):
                made[variant, start : start + 1000] = changed(images[start : start + 1000], generator)
        np.save(path, made)
    return np.load(path, mmap_mode="r")


def changed(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return images, uint8 (n, height, width), each turned, sheared, scaled and shifted a little; bilinear."""
    count, height, width = images.shape
    angle, shear = (generator.uniform(-most, most, (count, 1)) for most in (ANGLE, SHEAR))
    scale = 1 + generator.uniform(-SCALE, SCALE, (2, count, 1))
    shift = generator.uniform(-SHIFT, SHIFT, (2, count, 1))
    middle = (height - 1) / 2, (width - 1) / 2
    down, right = (part.reshape(1, -1) for part in np.mgrid[:height, :width])
    down, right = down - middle[0], right - middle[1]
    rows = np.cos(angle) * scale[0] * down - np.sin(angle) * scale[0] * right + middle[0] + shift[0]
    columns = (np.sin(angle) + shear) * scale[1] * down + np.cos(angle) * scale[1] * right + middle[1] + shift[1]
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2))).astype(np.float32)  # beyond the border all is 0
    rows, columns = (np.clip(x + 1, 0, size) for x, size in ((rows, height + 1), (columns, width + 1)))
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    below, beside = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    each = np.arange(count)[:, None]
    upper = padded[each, top, left] * (1 - beside) + padded[each, top, left + 1] * beside
    lower = padded[each, top + 1, left] * (1 - beside) + padded[each, top + 1, left + 1] * beside
    return np.rint(upper * (1 - below) + lower * below).astype(np.uint8).reshape(images.shape)
