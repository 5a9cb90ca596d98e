"""Data to train and to judge with: arrays in a file, or the digits that ship with scikit-learn."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import zipfile

import numpy as np

KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclasses.dataclass(frozen=True)
class Data:
    """Arrays to train with and others to judge with.

    Attributes:
        name: What the data is called.
        x_train: Inputs, samples first.
        y_train: Targets: whole numbers are classes, others are regressed.
        x_test: Inputs that training never sees.
        y_test: Their targets.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    def __post_init__(self) -> None:
        for x, y, part in ((self.x_train, self.y_train, "train"), (self.x_test, self.y_test, "test")):
            if len(x) != len(y) or not len(x):
                raise ValueError(
                    f"Expected as many targets as inputs, at least one. Received: x_{part} of shape {x.shape} and "
                    f"y_{part} of shape {y.shape}."
                )
            if not np.issubdtype(x.dtype, np.number) and x.dtype != bool:
                raise ValueError(f"Expected numbers. Received: x_{part} of dtype {x.dtype}.")
            if np.issubdtype(x.dtype, np.floating) and not np.all(np.isfinite(x)):
                raise ValueError(f"Expected finite inputs. Received: x_{part} with NaN or infinite values.")
        if self.classes is not None and min(self.y_train.min(), self.y_test.min()) < 0:
            raise ValueError("Expected classes from 0 on. Received: negative ones; number them 0, 1, 2, ...")
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise ValueError(
                "Expected samples of one shape. "
                f"Received: {self.x_train.shape[1:]} in x_train, {self.x_test.shape[1:]} in x_test."
            )

    @property
    def classes(self) -> int | None:
        """Number of classes; `None` where the targets aren't whole numbers."""
        if not np.issubdtype(self.y_train.dtype, np.integer) or self.y_train.ndim != 1:
            return None
        return int(max(self.y_train.max(), self.y_test.max())) + 1


def digits(seed: int = 0) -> Data:
    """Return scikit-learn's 1,797 handwritten digits: images (8, 8, 1), float32 in [0, 1]; a quarter is for tests.

    Example:

    >>> data = digits()
    >>> data.x_train.shape, data.classes
    ((1347, 8, 8, 1), 10)
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    loaded = load_digits()
    images = (loaded.images / 16.0).astype("float32")[..., None]
    parts = train_test_split(images, loaded.target, test_size=0.25, random_state=seed, stratify=loaded.target)
    return Data("digits", parts[0], parts[2], parts[1], parts[3])


def read_npz(path: str | os.PathLike[str]) -> Data:
    """Return the arrays `x_train`, `y_train`, `x_test` and `y_test` of an `.npz` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no `.npz` file, lacks an array, or its arrays don't fit each other.
    """
    path = pathlib.Path(path)
    if path.exists() and not zipfile.is_zipfile(path):
        raise ValueError(f"Expected an .npz file, as numpy.savez writes it. Received: {path}, which is none.")
    if not path.exists():
        raise FileNotFoundError(
            f"Expected an .npz file with the arrays {', '.join(KEYS)}. Received: no file at {path}."
        )
    with np.load(path, allow_pickle=False) as arrays:
        missing = [key for key in KEYS if key not in arrays]
        if missing:
            raise ValueError(
                f"Expected the arrays {', '.join(KEYS)} in {path}. Received: {', '.join(arrays) or 'none'}; "
                f"{', '.join(missing)} missing. Write it with numpy.savez(path, x_train=..., ...)."
            )
        return Data(path.stem, *(arrays[key] for key in KEYS))
