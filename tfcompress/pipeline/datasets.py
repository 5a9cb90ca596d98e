"""Data to train with and to evaluate on: arrays in a file, or the digits that ship with scikit-learn."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from tfcompress.data.array_checks import array_of, numbers_of, one_hot_classes

KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclasses.dataclass(frozen=True)
class Data:
    """Arrays to train with and others to evaluate on.

    Attributes:
        name: What the data is called.
        x_train: Inputs, samples first.
        y_train: Targets: whole numbers are classes, others are regressed; one-hot rows, one column of whole numbers,
            True and False, and text become classes.
        x_test: Inputs that training never sees.
        y_test: Their targets.
        class_names: Of classes that were text, in their order; `None`: they are numbers.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            for name in (f"x_{part}", f"y_{part}"):
                array = array_of(getattr(self, name), name, strings=name.startswith("y"))
                if not array.ndim:
                    raise ValueError(f"Expected {name} with one row per sample. Received: a single value.")
                object.__setattr__(self, name, array)
        for name, value in _as_classes(self.y_train, self.y_test).items():
            object.__setattr__(self, name, value)
        for x, y, part in ((self.x_train, self.y_train, "train"), (self.x_test, self.y_test, "test")):
            if len(x) != len(y) or not len(x):
                raise ValueError(
                    f"Expected as many targets as inputs, at least one. Received: x_{part} of shape {x.shape} and "
                    f"y_{part} of shape {y.shape}."
                )
            numbers_of(x, f"x_{part}")
            numbers_of(y, f"y_{part}")
        if self.y_train.shape[1:] != self.y_test.shape[1:]:
            raise ValueError(
                "Expected targets of one form. "
                f"Received: y_train of shape {self.y_train.shape}, y_test of shape {self.y_test.shape}."
            )
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


def _as_classes(train: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    """Return targets that are classes in another form as whole numbers, by field of `Data`."""
    if "U" in (train.dtype.kind, test.dtype.kind):
        names = np.unique(np.concatenate([np.ravel(train), np.ravel(test)]).astype(str))
        flat = (np.searchsorted(names, y.astype(str).reshape(len(y), -1)) for y in (train, test))
        made = [y[:, 0] if y.shape[1] == 1 else y for y in flat]
        return {"y_train": made[0], "y_test": made[1], "class_names": tuple(map(str, names))}
    if train.dtype.kind == test.dtype.kind == "b":
        train, test = train.astype("int64"), test.astype("int64")
    one_hot = [one_hot_classes(y) for y in (train, test)]
    if train.ndim == test.ndim == 2 and all(y is not None for y in one_hot):
        return {"y_train": one_hot[0], "y_test": one_hot[1]}
    if train.shape[1:] == test.shape[1:] == (1,) and train.dtype.kind in "iu" and test.dtype.kind in "iu":
        train, test = train[:, 0], test[:, 0]
    return {"y_train": train, "y_test": test}


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
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            found = list(stored)
            arrays = {key: stored[key] for key in KEYS if key in found}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError, NotImplementedError) as error:
        advice = f"is broken: {error}. Write it anew."
        if "allow_pickle" in str(error):
            advice = "holds Python objects. Write arrays of numbers or text."
        raise ValueError(
            f"Expected an .npz file that can be read to its end. Received: {path}, which {advice}"
        ) from error
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise ValueError(
            f"Expected the arrays {', '.join(KEYS)} in {path}. Received: {', '.join(found) or 'none'}; "
            f"{', '.join(missing)} missing. Write it with numpy.savez(path, x_train=..., ...)."
        )
    return Data(path.stem, *(arrays[key] for key in KEYS))
