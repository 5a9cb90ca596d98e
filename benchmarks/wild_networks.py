"""Small networks of the kinds that people have, trained in seconds on generated data or scikit-learn's digits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

TRAINED, TESTED = 4096, 1024
WORDS, LENGTH = 200, 24
CLASSES = 3


@dataclasses.dataclass(frozen=True)
class Data:
    """What a network is trained, calibrated and judged on.

    Attributes:
        x: One array for each input, of `TRAINED` + `TESTED` samples or fewer.
        y: The targets.
        tested: How many at the end are kept to judge.
        names: Of the inputs, if there are several.
    """

    x: list[np.ndarray]
    y: np.ndarray
    tested: int = TESTED
    names: tuple[str, ...] = ()

    def packed(self, arrays: list[np.ndarray]) -> Any:
        """Return what a model takes: an array, or several by name."""
        return dict(zip(self.names, arrays, strict=True)) if self.names else arrays[0]

    @property
    def train(self) -> list[np.ndarray]:
        """The inputs to train on."""
        return [array[: -self.tested] for array in self.x]

    @property
    def test(self) -> list[np.ndarray]:
        """The inputs to judge by."""
        return [array[-self.tested :] for array in self.x]


@dataclasses.dataclass(frozen=True)
class Network:
    """A kind of network.

    Attributes:
        title: What the table calls it.
        metric: Of `METRICS`.
        data: Makes the data from a random generator.
        build: Makes the model, untrained, from the data.
        loss: To train it with.
        epochs: How long.
    """

    title: str
    metric: str
    data: Callable[[np.random.Generator], Data]
    build: Callable[[Data], keras.Model]
    loss: Any
    epochs: int = 20


def accuracy(y: np.ndarray, output: np.ndarray) -> float:
    """Return the share of right classes, in per cent."""
    return float(100 * np.mean(output.argmax(axis=-1) == y))


def error(y: np.ndarray, output: np.ndarray) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.mean((output.astype(np.float64).reshape(y.shape) - y) ** 2)))


def correlation(y: np.ndarray, output: np.ndarray) -> float:
    """Return the correlation with the targets, of the column where it is least; 0 of a column that is constant."""
    y, output = y.reshape(len(y), -1), output.astype(np.float64).reshape(len(y), -1)
    columns = zip(y.T, output.T, strict=True)
    return min(float(np.corrcoef(*pair)[0, 1]) if np.ptp(pair[1]) else 0.0 for pair in columns)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy %": accuracy,
    "RMSE": error,
    "correlation": correlation,
}


def table(random: np.random.Generator) -> Data:
    """Columns of very different size: the exclusive or of the two small ones."""
    n = TRAINED + TESTED
    small, flag = random.uniform(size=n), random.integers(0, 2, n)
    x = np.stack([small, random.uniform(18, 80, n), 36_000 * random.lognormal(sigma=0.7, size=n), flag], axis=1)
    return Data([x.astype(np.float32)], ((small > 0.5) ^ (flag > 0)).astype(np.int32))


def table_model(data: Data) -> keras.Model:
    """Return a network that normalizes its columns itself."""
    normalization = layers.Normalization()
    normalization.adapt(data.train[0])
    stack = [normalization, layers.Dense(32, "relu"), layers.Dense(32, "relu"), layers.Dense(2)]
    return keras.Sequential([keras.Input((4,)), *stack])


SIDE = 16


def shapes(random: np.random.Generator) -> Data:
    """Pictures of a rectangle, one of three textures: its corners in pixels of 600 and its class."""
    n = TRAINED + TESTED
    low, size = random.integers(1, 8, (n, 2)), random.integers(4, 8, (n, 2))
    high, label = low + size, random.integers(0, CLASSES, n)
    rows, columns = np.arange(SIDE)[None, :, None], np.arange(SIDE)[None, None, :]
    ends = [array[:, axis, None, None] for axis in (0, 1) for array in (low, high)]
    inside = (rows >= ends[0]) & (rows < ends[1]) & (columns >= ends[2]) & (columns < ends[3])
    textures = np.broadcast_arrays(1.0, rows % 2, columns % 2)
    x = 0.8 * inside * np.stack(textures)[label, 0] + random.normal(scale=0.1, size=(n, SIDE, SIDE))
    y = np.concatenate([np.concatenate([low, high], axis=1) * 600 / SIDE, np.eye(CLASSES)[label]], axis=1)
    return Data([x[..., None].astype(np.float32)], y.astype(np.float32))


def detector(data: Data) -> keras.Model:
    """Return a network whose output holds boxes in pixels beside scores."""
    given = keras.Input((SIDE, SIDE, 1))
    x = given
    for filters, strides in ((16, 1), (32, 2), (32, 2)):
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dense(64, "relu")(layers.Flatten()(x))
    positive = {"kernel_initializer": "zeros", "bias_initializer": keras.initializers.Constant(0.5)}  # no ReLU dies
    boxes = layers.Rescaling(600.0)(layers.Dense(4, "relu", **positive)(x))
    return keras.Model(given, layers.Concatenate(name="detections")([boxes, layers.Dense(CLASSES, "sigmoid")(x)]))


def detection_loss(y: Any, output: Any) -> Any:
    """Return the squared error of boxes beside the cross-entropy of scores."""
    boxes = keras.ops.mean(keras.ops.square((y[:, :4] - output[:, :4]) / 600), axis=-1)
    return 5 * boxes + keras.losses.binary_crossentropy(y[:, 4:], output[:, 4:])


def prices(random: np.random.Generator) -> Data:
    """Targets that are log-normal: few are large."""
    x = random.normal(size=(TRAINED + TESTED, 4))
    y = np.exp(x @ [0.5, -0.4, 0.3, 0.2] + 0.3 * np.sin(2 * x[:, 0]) + 0.05 * random.normal(size=len(x)))
    return Data([x.astype(np.float32)], y.astype(np.float32))


def regression(data: Data) -> keras.Model:
    """Return a small dense network with one output."""
    stack = [layers.Dense(32, "relu"), layers.Dense(32, "relu"), layers.Dense(1)]
    return keras.Sequential([keras.Input((4,)), *stack])


def phrases(random: np.random.Generator) -> Data:
    """Words among which one of three sets of pairs is hidden."""
    n = TRAINED + TESTED
    x, label = random.integers(1, WORDS, (n, LENGTH)), random.integers(0, CLASSES, n)
    first = random.integers(0, 8, n)
    place = random.integers(0, LENGTH - 1, n)
    x[np.arange(n), place] = 1 + first
    x[np.arange(n), place + 1] = 10 + (first + label * 3) % 9
    return Data([x.astype(np.int32)], label.astype(np.int32))


def convolved_text(data: Data) -> keras.Model:
    """Return an embedding with convolutions behind."""
    stack = [
        layers.Embedding(WORDS, 16),
        layers.Conv1D(64, 2, activation="relu"),
        layers.GlobalMaxPooling1D(),
        layers.Dense(32, "relu"),
        layers.Dense(CLASSES, "softmax"),
    ]
    return keras.Sequential([keras.Input((LENGTH,), dtype="int32"), *stack])


def topics(random: np.random.Generator) -> Data:
    """Texts of several lengths, padded with 0: which third of the vocabulary has most words."""
    n = TRAINED + TESTED
    x = random.integers(1, WORDS, (n, LENGTH))
    x[np.arange(LENGTH) >= random.integers(8, LENGTH + 1, n)[:, None]] = 0
    counts = np.stack([((x > 0) & (x % CLASSES == group)).sum(axis=1) for group in range(CLASSES)], axis=1)
    return Data([x.astype(np.int32)], (counts + random.uniform(0, 0.5, counts.shape)).argmax(axis=1).astype(np.int32))


def attention(data: Data) -> keras.Model:
    """Return one block of a transformer over words, padding masked."""
    given = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(WORDS, 32, mask_zero=True)(given)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 16)(x, x))
    x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, "gelu")(x)))
    return keras.Model(given, layers.Dense(CLASSES, "softmax")(layers.GlobalAveragePooling1D()(x)))


def sounds(random: np.random.Generator) -> Data:
    """Noisy tones that rise, fall or stay."""
    n, size = TRAINED // 2 + TESTED, 512
    label = random.integers(0, CLASSES, n)
    time = np.arange(size) / size
    begin, slope = random.uniform(50, 70, (n, 1)), (label[:, None] - 1) * random.uniform(20, 50, (n, 1))
    phase = 2 * np.pi * (begin * time + slope * time**2 / 2 + random.uniform(size=(n, 1)))
    loudness = random.lognormal(-2, 0.7, (n, 1))
    x = loudness * (np.sin(phase) + random.normal(scale=0.4, size=(n, size)))
    return Data([x[..., None].astype(np.float32)], label.astype(np.int32))


def dilated(data: Data) -> keras.Model:
    """Return residual blocks of dilated causal convolutions over a wave."""
    given = keras.Input((data.x[0].shape[1], 1))
    x = layers.Conv1D(24, 16, strides=4, padding="same", activation="relu")(given)
    for dilation in (1, 2, 4, 8):
        y = layers.Conv1D(24, 3, padding="causal", dilation_rate=dilation, use_bias=False)(x)
        x = layers.Add()([x, layers.ReLU()(layers.BatchNormalization()(y))])
    return keras.Model(given, layers.Dense(CLASSES, "softmax")(layers.GlobalAveragePooling1D()(x)))


def series(random: np.random.Generator) -> Data:
    """Sums of two oscillations and a trend with noise: the next value."""
    n, size = TRAINED + TESTED, 33
    time = np.arange(size)
    wave = sum(
        random.uniform(0.3, 1, (n, 1)) * np.sin(random.uniform(*speed, (n, 1)) * time + random.uniform(0, 6, (n, 1)))
        for speed in ((0.2, 0.5), (0.8, 1.2))
    )
    x = wave + random.normal(scale=0.02, size=(n, 1)) * time + random.normal(scale=0.05, size=(n, size))
    return Data([x[:, :-1, None].astype(np.float32)], x[:, -1].astype(np.float32))


def recurrent(data: Data) -> keras.Model:
    """Return a GRU with a dense layer behind."""
    stack = [layers.GRU(24), layers.Dense(1)]
    return keras.Sequential([keras.Input(data.x[0].shape[1:]), *stack])


def pixels(random: np.random.Generator) -> Data:
    """Scikit-learn's digits as pixels of 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = random.permutation(len(digits.target))
    x = np.round(digits.images[order] * 255 / 16)[..., None]
    return Data([x.astype(np.float32)], digits.target[order].astype(np.int32), tested=500)


def digits_model(data: Data) -> keras.Model:
    """Return a small convolutional network that scales pixels to -1..1 itself."""
    stack = [
        layers.Rescaling(1 / 127.5, offset=-1.0),
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(10),
    ]
    return keras.Sequential([keras.Input((8, 8, 1)), *stack])


USERS, ITEMS = 120, 80


def ratings(random: np.random.Generator) -> Data:
    """Users and items by number: the cosine of hidden tastes, with noise."""
    n = 2 * TRAINED + TESTED
    tastes, kinds = random.normal(size=(USERS, 3)), random.normal(size=(ITEMS, 3))
    user, item = random.integers(0, USERS, n), random.integers(0, ITEMS, n)
    norms = np.linalg.norm(tastes[user], axis=1) * np.linalg.norm(kinds[item], axis=1)
    y = (tastes[user] * kinds[item]).sum(axis=1) / norms + random.normal(scale=0.1, size=n)
    numbers = [array.astype(np.int32)[:, None] for array in (user, item)]
    return Data(numbers, y.astype(np.float32), names=("user", "item"))


def towers(data: Data) -> keras.Model:
    """Return two towers of an embedding and dense layers, and the cosine of what they make."""
    given, made = [], []
    for name, count in zip(data.names, (USERS, ITEMS), strict=True):
        given.append(keras.Input((1,), dtype="int32", name=name))
        x = layers.Dense(32, "relu")(layers.Flatten()(layers.Embedding(count, 16)(given[-1])))
        made.append(layers.Dense(8)(x))
    return keras.Model(given, layers.Dot(axes=1, normalize=True)(made))


LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PROBABILITIES = "sparse_categorical_crossentropy"

NETWORKS = {
    "table": Network("table, columns of 1 to 36,000", "accuracy %", table, table_model, LOGITS),
    "detector": Network("boxes beside scores", "correlation", shapes, detector, detection_loss),
    "regression": Network("log-normal targets", "RMSE", prices, regression, "mse", 40),
    "convolved_text": Network("text, Conv1D", "accuracy %", phrases, convolved_text, PROBABILITIES),
    "attention": Network("text, attention", "accuracy %", topics, attention, PROBABILITIES, 8),
    "dilated": Network("sound, dilated Conv1D", "accuracy %", sounds, dilated, PROBABILITIES, 15),
    "recurrent": Network("time series, GRU", "RMSE", series, recurrent, "mse"),
    "digits": Network("digits, p / 127.5 - 1", "accuracy %", pixels, digits_model, LOGITS, 15),
    "towers": Network("two towers, cosine", "correlation", ratings, towers, "mse"),
}


def trained(name: str) -> tuple[keras.Model, Data]:
    """Return a trained network and its data, by the same seed each time."""
    keras.utils.set_random_seed(0)
    network = NETWORKS[name]
    data = network.data(np.random.default_rng(0))
    model = network.build(data)
    model.compile(keras.optimizers.Adam(3e-3), network.loss)
    model.fit(data.packed(data.train), data.y[: -data.tested], batch_size=64, epochs=network.epochs, verbose=0)
    return model, data
