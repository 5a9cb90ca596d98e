"""Data to train with, to validate and to test on, wherever it comes from."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfcompress.data.array_checks import array_of, numbers_of, one_hot_classes
from tfcompress.data.splits import ArraySplit, Split


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Samples with targets, divided by what they are for.

    Attributes:
        name: What the data is called.
        train: To train with.
        test: What training never sees.
        validation: What is looked at after each epoch; `None`: nothing.
        classes: Number of classes; `None` where the targets aren't whole numbers.
        class_names: Of the classes, in their order; `None`: they are numbers.
        smallest: The smallest class that occurs, as far as that was looked for.
        drawn: How it was drawn which samples are for tests; `None`: the data says so.

    Example:

    >>> part = ArraySplit(np.zeros((3, 2)), np.zeros(3))
    >>> Dataset("six", part, part).division()
    '3 samples to train with, 3 to test on: as the data is divided'
    """

    name: str
    train: Split
    test: Split
    validation: Split | None = None
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    smallest: int = 0
    drawn: str | None = None

    def division(self) -> str:
        """Return how many samples are for what, and who says so."""
        checked = f", {self.validation.samples:,} to validate on" if self.validation else ""
        return (
            f"{self.train.samples:,} samples to train with{checked}, {self.test.samples:,} to test on: "
            f"{self.drawn or 'as the data is divided'}"
        )


class Data(Dataset):
    """Arrays to train with and others to evaluate on.

    Args:
        name: What the data is called.
        x_train: Inputs, samples first.
        y_train: Targets: whole numbers are classes, others are regressed; one-hot rows, one column of whole numbers,
            True and False, and text become classes.
        x_test: Inputs that training never sees.
        y_test: Their targets.
        class_names: Of the classes, in their order; `None`: they are numbers, or named by targets that are text.
        drawn: As in `Dataset`.

    Raises:
        ValueError: If the arrays don't fit each other, or hold no finite numbers.

    Example:

    >>> data = Data("four", np.zeros((3, 2)), ["b", "a", "b"], np.zeros((1, 2)), ["a"])
    >>> data.y_train.tolist(), data.class_names, data.classes, data.test.samples
    ([1, 0, 1], ('a', 'b'), 2, 1)
    """

    def __init__(
        self,
        name: str,
        x_train: Any,
        y_train: Any,
        x_test: Any,
        y_test: Any,
        *,
        class_names: tuple[str, ...] | None = None,
        drawn: str | None = None,
    ):
        given = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
        arrays = {}
        for key, value in given.items():
            arrays[key] = array_of(value, key, strings=key.startswith("y"))
            if not arrays[key].ndim:
                raise ValueError(f"Expected {key} with one row per sample. Received: a single value.")
        y_train, y_test, found = _as_classes(arrays["y_train"], arrays["y_test"])
        x_train, x_test = arrays["x_train"], arrays["x_test"]
        for x, y, part in ((x_train, y_train, "train"), (x_test, y_test, "test")):
            if len(x) != len(y) or not len(x):
                raise ValueError(
                    f"Expected as many targets as inputs, at least one. Received: x_{part} of shape {x.shape} and "
                    f"y_{part} of shape {y.shape}."
                )
            numbers_of(x, f"x_{part}")
            numbers_of(y, f"y_{part}")
        if y_train.shape[1:] != y_test.shape[1:]:
            raise ValueError(
                f"Expected targets of one form. Received: y_train of shape {y_train.shape}, y_test of shape "
                f"{y_test.shape}."
            )
        classes, smallest = None, 0
        if np.issubdtype(y_train.dtype, np.integer) and y_train.ndim == 1:
            classes = int(max(y_train.max(), y_test.max())) + 1
            smallest = int(min(y_train.min(), y_test.min()))
            if smallest < 0:
                raise ValueError("Expected classes from 0 on. Received: negative ones; number them 0, 1, 2, ...")
        if x_train.shape[1:] != x_test.shape[1:]:
            raise ValueError(
                "Expected samples of one shape. "
                f"Received: {x_train.shape[1:]} in x_train, {x_test.shape[1:]} in x_test."
            )
        splits = ArraySplit(x_train, y_train), ArraySplit(x_test, y_test)
        how: dict[str, Any] = {"class_names": found or class_names, "smallest": smallest, "drawn": drawn}
        super().__init__(name, *splits, classes=classes, **how)
        self.__dict__.update(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)  # the class is frozen

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def _as_classes(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...] | None]:
    """Return targets that are classes in another form as whole numbers, and the names of those that were text."""
    if "U" in (train.dtype.kind, test.dtype.kind):
        names = np.unique(np.concatenate([np.ravel(train), np.ravel(test)]).astype(str))
        flat = (np.searchsorted(names, y.astype(str).reshape(len(y), -1)) for y in (train, test))
        made = [y[:, 0] if y.shape[1] == 1 else y for y in flat]
        return made[0], made[1], tuple(map(str, names))
    if train.dtype.kind == test.dtype.kind == "b":
        train, test = train.astype("int64"), test.astype("int64")
    one_hot = [one_hot_classes(y) for y in (train, test)]
    if train.ndim == test.ndim == 2 and one_hot[0] is not None and one_hot[1] is not None:
        return one_hot[0], one_hot[1], None
    if train.shape[1:] == test.shape[1:] == (1,) and train.dtype.kind in "iu" and test.dtype.kind in "iu":
        train, test = train[:, 0], test[:, 0]
    return train, test, None
