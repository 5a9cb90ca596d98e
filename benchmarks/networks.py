"""The networks that are measured, of Keras 3 and, for tfmot, of tf_keras alike, and one way to train both."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from benchmarks import data
from benchmarks.harness import clocks

PIXEL = 2 / 255
"""Pixel values 0..255 times this, less 1, are what ResNet-8 computes with."""


def small(module: Any, scale: float | None = None) -> Any:
    """Return the 28x28x1 convolutional network that most questions are asked of, 225,034 parameters.

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


def lenet(name: str) -> keras.Model:
    """Return LeNet-300-100 or Caffe's LeNet-5; pixel values in, logits out."""
    layers = keras.layers
    body = {
        "LeNet-300-100": [
            layers.Flatten(),
            layers.Dense(300, activation="relu", name="first"),
            layers.Dense(100, activation="relu", name="second"),
        ],
        "LeNet-5": [
            layers.Conv2D(20, 5, name="first"),
            layers.MaxPooling2D(),
            layers.Conv2D(50, 5, name="second"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(500, activation="relu", name="third"),
        ],
    }[name]
    return keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Rescaling(1 / 255), *body, layers.Dense(10, name="logits")]
    )


def ds_cnn() -> keras.Model:
    """Return the keyword spotting network of MLPerf Tiny, 25 thousand parameters."""
    layers = keras.layers

    def normalized(x: Any) -> Any:
        return layers.ReLU()(layers.BatchNormalization()(x))

    keras.utils.set_random_seed(0)
    inputs = keras.Input((49, 10, 1))
    x = normalized(layers.Conv2D(64, (10, 4), 2, padding="same", use_bias=False)(inputs))
    for _ in range(4):
        x = normalized(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x))
        x = normalized(layers.Conv2D(64, 1, padding="same", use_bias=False)(x))
    x = layers.GlobalAveragePooling2D()(layers.Dropout(0.4)(x))
    return keras.Model(inputs, layers.Dense(12, activation="softmax")(x))


def chain(depth: int) -> keras.Model:
    """Return a network of so many dense layers, every other with a ReLU."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 20 * depth))  # Keras walks a graph by recursion
    dense = (layers.Dense(16, "relu" if place % 2 else None) for place in range(depth))
    return keras.Sequential([keras.Input((16,)), *dense])


def large_layers(name: str, millions: float) -> keras.Model:
    """Return a model of so many parameters, of four layers that hold them."""
    keras.utils.set_random_seed(0)
    each = millions * 1e6 / 4
    if name == "dense":
        size = round(math.sqrt(each))
        layers = [keras.layers.Dense(size, "relu") for _ in range(4)]
        return keras.Sequential([keras.Input((size,)), *layers])
    if name == "LSTM":
        size = round(math.sqrt(each / 8))
        layers = [keras.layers.LSTM(size, return_sequences=True) for _ in range(4)]
        return keras.Sequential([keras.Input((4, size)), *layers])
    size = round(math.sqrt(each / 9))
    layers = [keras.Input((6, 6, size))]
    for _ in range(4):
        layers += [
            keras.layers.Conv2D(size, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    return keras.Sequential(layers)


def kept(path: pathlib.Path, make: Callable[[], keras.Model]) -> keras.Model:
    """Return a network that is trained once, and kept in a file."""
    import tfcompress as tfc

    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        tfc.save(made, path, overwrite=True)
    model = keras.models.load_model(path, compile=False)
    assert isinstance(model, keras.Model)
    return model


def trained_small(train: data.Arrays, cache: pathlib.Path) -> keras.Model:
    """Return the small network, trained for three epochs on MNIST, once."""

    def make() -> keras.Model:
        keras.utils.set_random_seed(0)
        model = small(keras, scale=1 / 255)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
        model.fit(train[0].astype(np.float32), train[1], batch_size=128, epochs=3, verbose=2)
        return model

    return kept(cache / "small_mnist.keras", make)


def trained_perceptron(train: data.Arrays, path: pathlib.Path) -> keras.Model:
    """Return a perceptron with two layers of 1,024 and one of 10, trained for three epochs, once.

    Args:
        train: Flat pixel values, and labels.
        path: The file that it is kept in.
    """

    def make() -> keras.Model:
        keras.utils.set_random_seed(0)
        units = [keras.layers.Dense(n, activation=a) for n, a in ((1024, "relu"), (1024, "relu"), (10, None))]
        model = keras.Sequential([keras.Input(train[0].shape[1:]), keras.layers.Rescaling(1 / 255), *units])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(train[0], train[1], batch_size=128, epochs=3, verbose=0)
        return model

    return kept(path, make)


AUGMENTED_SHIFT = 4
"""Pixels by which augmented images are shifted at most."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a network is trained.

    Attributes:
        epochs: Times through the samples.
        rate: Adam's at the beginning; it falls to 0 along half a cosine.
        seed: Of the samples' order and of the augmentation.
        batch_size: Samples in a batch; what remains of an epoch is left out.
        augment: Whether images are mirrored and shifted by up to 4 pixels.
        shift: Pixels by which images are shifted at most where they aren't augmented.
        weight_decay: Of AdamW (Loshchilov & Hutter, 2019), relative to the rate; 0 is Adam.
    """

    epochs: int
    rate: float
    seed: int
    batch_size: int = 128
    augment: bool = False
    shift: int = 0
    weight_decay: float = 0.0

    def steps(self, train: data.Arrays) -> int:
        """Return the steps of an epoch."""
        return len(train[0]) // self.batch_size


def fit(
    how: Fit,
    module: Any,
    model: Any,
    train: data.Arrays,
    scaled: Callable[[np.ndarray], np.ndarray] = lambda x: x,
    *,
    callbacks: Sequence[Any] = (),
) -> float:
    """Train a model of either Keras.

    Args:
        how: For how long, how fast, in which order.
        module: `keras` or `tf_keras`.
        model: With logits of classes out.
        train: Images, uint8, and labels.
        scaled: What is done to the pixels, float32, first.
        callbacks: That `fit` needs.

    Returns:
        The seconds of all processors in an epoch.
    """
    import tensorflow as tf

    def batches() -> Iterator[data.Arrays]:
        shift = AUGMENTED_SHIFT if how.augment else how.shift
        made = data.shuffled(
            *train, batch_size=how.batch_size, epochs=how.epochs, seed=how.seed, mirror=how.augment, shift=shift
        )
        return ((scaled(x), y) for x, y in made)

    specs = tf.TensorSpec((how.batch_size, *train[0].shape[1:]), tf.float32), tf.TensorSpec((how.batch_size,), tf.int32)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=specs).prefetch(4)
    schedule = module.optimizers.schedules.CosineDecay(how.rate, how.epochs * how.steps(train))
    loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = module.optimizers.AdamW(schedule, weight_decay=how.weight_decay)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    _, begun = clocks()
    model.fit(
        dataset, epochs=how.epochs, steps_per_epoch=how.steps(train), verbose=2, callbacks=list(callbacks) or None
    )
    return (clocks()[1] - begun) / how.epochs


def stepper(
    module: Any, model: Any, jit: bool, shape: tuple[int, ...], size: int, *, callbacks: Any = ()
) -> Callable[[], None]:
    """Return a function that does one training step of `model` on a fixed batch."""
    import tensorflow as tf

    loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(module.optimizers.Adam(1e-3), loss, jit_compile=jit)
    generator = np.random.default_rng(0)
    x = tf.constant(generator.normal(size=(size, *shape)).astype("float32"))
    y = tf.constant(generator.integers(0, 10, size))
    batches = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    function = model.make_train_function() or model.train_function
    for callback in callbacks:
        callback.set_model(model)
        callback.on_train_begin()

    def step() -> None:
        for callback in callbacks:
            callback.on_train_batch_begin(0)
        function(batches)

    return step
