"""What the comparisons are made on: images from the folder of the flag --data, and samples that are generated."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]

TRAINED, TESTED = 4096, 1024
"""Samples that are generated."""
CLASSES = 3
WORDS, LENGTH = 200, 24
"""Of a text."""
SIDE = 16
"""Of a picture, in pixels."""
USERS, ITEMS = 120, 80


def mnist(folder: pathlib.Path) -> tuple[Arrays, Arrays]:
    """Return ((x, y) to train, (x, y) to test); x uint8 (n, 28, 28, 1), y uint8 (n,)."""
    with np.load(folder / "mnist.npz") as file:
        train, test = ((file[f"x_{split}"][..., None], file[f"y_{split}"]) for split in ("train", "test"))
    return train, test


def flat(images: np.ndarray) -> np.ndarray:
    """Return images as vectors of pixel values, float32."""
    return images.reshape(len(images), -1).astype(np.float32)


def cifar10(folder: pathlib.Path) -> tuple[Arrays, Arrays]:
    """Return ((x, y) to train, (x, y) to test); x uint8 (n, 32, 32, 3), y uint8 (n,)."""
    return _decoded(folder, "train"), _decoded(folder, "test")


def _decoded(folder: pathlib.Path, split: str) -> Arrays:
    import tensorflow as tf

    with np.load(folder / "cifar10_jpeg.npz") as file:
        content, offset, label = (file[f"{split}_{part}"] for part in ("jpeg", "offset", "label"))
    images = np.empty((len(label), 32, 32, 3), np.uint8)
    for place, (start, end) in enumerate(itertools.pairwise(offset)):
        # TensorFlow's default is faster and gives other pixels than those that the network was trained on.
        images[place] = tf.io.decode_jpeg(content[start:end].tobytes(), dct_method="INTEGER_ACCURATE").numpy()
    return images, label


def shuffled(
    x: np.ndarray, y: np.ndarray, *, batch_size: int, epochs: int, seed: int, mirror: bool = False, shift: int = 0
) -> Iterator[Arrays]:
    """Yield batches of float32 pixels and int32 labels; one seed gives the same ones in the same order.

    Args:
        x: uint8 (n, height, width, channels).
        y: (n,).
        batch_size: Samples in a batch; what remains of an epoch is left out.
        epochs: How many times through the samples.
        seed: Of the order and of the augmentation.
        mirror: Whether half of the images are mirrored.
        shift: Pixels by which images are shifted at most.
    """
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(len(x))
        for start in range(0, len(x) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            images = _mirrored(x[chosen], generator) if mirror else x[chosen]
            images = _shifted(images, generator, shift) if shift else images
            yield images.astype(np.float32), y[chosen].astype(np.int32)


def _mirrored(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.where(generator.random((len(images), 1, 1, 1)) < 0.5, images[:, :, ::-1], images)


def _shifted(images: np.ndarray, generator: np.random.Generator, most: int) -> np.ndarray:
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="reflect")
    down, right = generator.integers(0, 2 * most + 1, (2, count, 1))
    rows = (down + np.arange(height))[:, :, None]
    columns = (right + np.arange(width))[:, None, :]
    return padded[np.arange(count)[:, None, None], rows, columns]


@dataclasses.dataclass(frozen=True)
class Samples:
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


def table(random: np.random.Generator) -> Samples:
    """Columns of very different size: the exclusive or of the two small ones."""
    n = TRAINED + TESTED
    small, flag = random.uniform(size=n), random.integers(0, 2, n)
    x = np.stack([small, random.uniform(18, 80, n), 36_000 * random.lognormal(sigma=0.7, size=n), flag], axis=1)
    return Samples([x.astype(np.float32)], ((small > 0.5) ^ (flag > 0)).astype(np.int32))


def shapes(random: np.random.Generator) -> Samples:
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
    return Samples([x[..., None].astype(np.float32)], y.astype(np.float32))


def prices(random: np.random.Generator) -> Samples:
    """Targets that are log-normal: few are large."""
    x = random.normal(size=(TRAINED + TESTED, 4))
    y = np.exp(x @ [0.5, -0.4, 0.3, 0.2] + 0.3 * np.sin(2 * x[:, 0]) + 0.05 * random.normal(size=len(x)))
    return Samples([x.astype(np.float32)], y.astype(np.float32))


def phrases(random: np.random.Generator) -> Samples:
    """Words among which one of three sets of pairs is hidden."""
    n = TRAINED + TESTED
    x, label = random.integers(1, WORDS, (n, LENGTH)), random.integers(0, CLASSES, n)
    first = random.integers(0, 8, n)
    place = random.integers(0, LENGTH - 1, n)
    x[np.arange(n), place] = 1 + first
    x[np.arange(n), place + 1] = 10 + (first + label * 3) % 9
    return Samples([x.astype(np.int32)], label.astype(np.int32))


def topics(random: np.random.Generator) -> Samples:
    """Texts of several lengths, padded with 0: which third of the vocabulary has most words."""
    n = TRAINED + TESTED
    x = random.integers(1, WORDS, (n, LENGTH))
    x[np.arange(LENGTH) >= random.integers(8, LENGTH + 1, n)[:, None]] = 0
    counts = np.stack([((x > 0) & (x % CLASSES == group)).sum(axis=1) for group in range(CLASSES)], axis=1)
    return Samples(
        [x.astype(np.int32)], (counts + random.uniform(0, 0.5, counts.shape)).argmax(axis=1).astype(np.int32)
    )


def sounds(random: np.random.Generator) -> Samples:
    """Noisy tones that rise, fall or stay."""
    n, size = TRAINED // 2 + TESTED, 512
    label = random.integers(0, CLASSES, n)
    time = np.arange(size) / size
    begin, slope = random.uniform(50, 70, (n, 1)), (label[:, None] - 1) * random.uniform(20, 50, (n, 1))
    phase = 2 * np.pi * (begin * time + slope * time**2 / 2 + random.uniform(size=(n, 1)))
    loudness = random.lognormal(-2, 0.7, (n, 1))
    x = loudness * (np.sin(phase) + random.normal(scale=0.4, size=(n, size)))
    return Samples([x[..., None].astype(np.float32)], label.astype(np.int32))


def series(random: np.random.Generator) -> Samples:
    """Sums of two oscillations and a trend with noise: the next value."""
    n, size = TRAINED + TESTED, 33
    time = np.arange(size)
    wave = sum(
        random.uniform(0.3, 1, (n, 1)) * np.sin(random.uniform(*speed, (n, 1)) * time + random.uniform(0, 6, (n, 1)))
        for speed in ((0.2, 0.5), (0.8, 1.2))
    )
    x = wave + random.normal(scale=0.02, size=(n, 1)) * time + random.normal(scale=0.05, size=(n, size))
    return Samples([x[:, :-1, None].astype(np.float32)], x[:, -1].astype(np.float32))


def pixels(random: np.random.Generator) -> Samples:
    """Scikit-learn's digits as pixels of 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = random.permutation(len(digits.target))
    x = np.round(digits.images[order] * 255 / 16)[..., None]
    return Samples([x.astype(np.float32)], digits.target[order].astype(np.int32), tested=500)


def ratings(random: np.random.Generator) -> Samples:
    """Users and items by number: the cosine of hidden tastes, with noise."""
    n = 2 * TRAINED + TESTED
    tastes, kinds = random.normal(size=(USERS, 3)), random.normal(size=(ITEMS, 3))
    user, item = random.integers(0, USERS, n), random.integers(0, ITEMS, n)
    norms = np.linalg.norm(tastes[user], axis=1) * np.linalg.norm(kinds[item], axis=1)
    y = (tastes[user] * kinds[item]).sum(axis=1) / norms + random.normal(scale=0.1, size=n)
    numbers = [array.astype(np.int32)[:, None] for array in (user, item)]
    return Samples(numbers, y.astype(np.float32), names=("user", "item"))
