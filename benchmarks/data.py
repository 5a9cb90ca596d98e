"""The images that the comparisons are made on, read from the folder of the flag --data."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]

SHIFT = 4
"""Pixels by which a crop is shifted at most."""


def mnist(folder: pathlib.Path) -> tuple[Arrays, Arrays]:
    """Return ((x, y) to train, (x, y) to test); x uint8 (n, 28, 28, 1), y uint8 (n,)."""
    with np.load(folder / "mnist.npz") as file:
        train, test = ((file[f"x_{split}"][..., None], file[f"y_{split}"]) for split in ("train", "test"))
    return train, test


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
    x: np.ndarray, y: np.ndarray, *, batch_size: int, epochs: int, seed: int, augment: bool
) -> Iterator[Arrays]:
    """Yield batches of float32 pixels and int32 labels; one seed gives the same ones in the same order.

    Args:
        x: uint8 (n, height, width, channels).
        y: (n,).
        batch_size: Samples in a batch; what remains of an epoch is left out.
        epochs: How many times through the samples.
        seed: Of the order and of the augmentation.
        augment: Whether half of the images are mirrored and all are shifted by up to 4 pixels.
    """
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(len(x))
        for start in range(0, len(x) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            images = _augmented(x[chosen], generator) if augment else x[chosen]
            yield images.astype(np.float32), y[chosen].astype(np.int32)


def _augmented(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    count, height, width, _ = images.shape
    mirrored = generator.random((count, 1, 1, 1)) < 0.5
    images = np.where(mirrored, images[:, :, ::-1], images)
    padded = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="reflect")
    down, right = generator.integers(0, 2 * SHIFT + 1, (2, count, 1))
    rows = (down + np.arange(height))[:, :, None]
    columns = (right + np.arange(width))[:, None, :]
    return padded[np.arange(count)[:, None, None], rows, columns]
