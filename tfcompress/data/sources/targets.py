"""What targets are, as far as they were seen: classes, as whole numbers, one-hot rows or text, or values to regress."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfcompress.core.arguments import short
from tfcompress.data.array_checks import one_hot_classes

MOST_TEXTS = 100_000
"""That are classes: a text that is another in each sample names none."""


@dataclasses.dataclass
class Targets:
    """What the targets of one part of the data are, gone through once; of each its class alone is kept.

    Attributes:
        samples: How many.
        kind: "whole" numbers, "one-hot", "text", or "values", which are no classes.
        smallest: The smallest whole number.
        largest: The largest class, as a number.
        texts: Each text, and a number for it.

    Example:

    >>> seen = Targets()
    >>> seen.see(np.array([[2], [1], [2]]))
    >>> seen.kind, seen.samples, seen.smallest, seen.largest, seen.labels().tolist()
    ('whole', 3, 1, 2, [2, 1, 2])
    """

    samples: int = 0
    kind: str | None = None
    smallest: int | None = None
    largest: int = 0
    texts: dict[str, int] = dataclasses.field(default_factory=dict)
    _labels: list[np.ndarray] = dataclasses.field(default_factory=list)

    def see(self, y: np.ndarray) -> None:
        """Take in a batch of targets.

        Raises:
            ValueError: If they are negative numbers, text beside numbers, or too many different texts.
        """
        if not len(y):
            return
        self.samples += len(y)
        kind, labels = self._classes(y)
        if "text" in (kind, self.kind) and self.kind not in (None, kind):
            raise ValueError("Expected targets of one kind. Received: text and numbers. Write all of them as text.")
        self.kind = kind if self.kind in (None, kind) else "values"
        if self.kind == "values" or labels is None:
            self._labels = []
            return
        smallest, largest = int(labels.min()), int(labels.max())
        if smallest < 0:
            raise ValueError("Expected classes from 0 on. Received: negative ones; number them 0, 1, 2, ...")
        self.smallest = smallest if self.smallest is None else min(self.smallest, smallest)
        self.largest = max(self.largest, y.shape[1] - 1 if kind == "one-hot" else largest)
        self._labels.append(labels.astype(np.min_scalar_type(largest)))

    def _classes(self, y: np.ndarray) -> tuple[str, np.ndarray | None]:
        flat = y.reshape(-1) if y.ndim == 1 or y.shape[1:] == (1,) else None
        if y.dtype.kind in "SUO":
            if flat is None:
                raise ValueError(f"Expected one text for each sample. Received: targets of shape {y.shape}.")
            words = [text.decode() if isinstance(text, bytes) else str(text) for text in flat.tolist()]
            numbers = [self.texts.setdefault(word, len(self.texts)) for word in words]
            if len(self.texts) > MOST_TEXTS:
                raise ValueError(
                    f"Expected targets that name classes. Received: more than {MOST_TEXTS:,} different texts, such as "
                    f"{short(words[-1])}."
                )
            return "text", np.array(numbers)
        if flat is not None and y.dtype.kind in "iub":
            return "whole", flat.astype("int64")
        one_hot = one_hot_classes(y) if y.ndim == 2 else None
        return ("values", None) if one_hot is None else ("one-hot", one_hot)

    def labels(self) -> np.ndarray | None:
        """Return a number for each sample that tells its class; `None` where targets are values."""
        return np.concatenate(self._labels) if self._labels else None

    def named(self, label: int) -> str:
        """Return what the class is called that a number of `labels` tells."""
        return repr(next(text for text, number in self.texts.items() if number == label)) if self.texts else str(label)

    def otherwise(self) -> str:
        """Return what may be done where numbers were taken for classes, in words."""
        return " If the numbers are no classes, give them as floats: 3.0." if self.kind == "whole" else ""

    def as_class(self, names: Sequence[str] | None) -> Callable[[Any], Any] | None:
        """Return a function from a target of `tf.data` to the class as a number; `None` where it is one already.

        Args:
            names: Of the classes, in their order, where targets are text.
        """
        import keras
        import tensorflow as tf

        if self.kind == "one-hot":
            return lambda y: tf.argmax(y, axis=-1)
        if self.kind == "text":
            lookup = keras.layers.StringLookup(vocabulary=list(names or ()), num_oov_indices=0)
            return lambda y: lookup(tf.reshape(y, []))
        return (lambda y: tf.cast(tf.reshape(y, []), "int64")) if self.kind == "whole" else None


@dataclasses.dataclass(frozen=True)
class Classes:
    """What the classes of data are.

    Attributes:
        number: How many; `None`: targets are values.
        names: In their order; `None`: they are numbers.
        smallest: The smallest number that occurs.
    """

    number: int | None
    names: tuple[str, ...] | None = None
    smallest: int = 0


def classes_of(parts: Sequence[Targets], names: tuple[str, ...] | None = None, what: str = "targets") -> Classes:
    """Return what the classes of all parts together are.

    Args:
        parts: What each has.
        names: Of the classes in their order, where that is known.
        what: What the targets are called, for messages.

    Raises:
        ValueError: If there are others than those that have names, or some parts have text and others numbers.

    Example:

    >>> seen = Targets()
    >>> seen.see(np.array(["dog", "cat", "dog"]))
    >>> classes_of([seen]).names
    ('cat', 'dog')
    """
    kinds = {part.kind for part in parts}
    if "text" in kinds:
        if len(kinds) > 1:
            raise ValueError(f"Expected {what} of one kind in all parts. Received: text and numbers.")
        found = sorted(set().union(*(part.texts for part in parts)))
        unknown = [text for text in found if text not in (names or found)]
        if unknown:
            raise ValueError(
                f"Expected {what} to be among the names {short(list(names or ()))}. Received: {short(unknown)}."
            )
        names = names or tuple(found)
        return Classes(len(names), names)
    number = None if "values" in kinds else 1 + max(part.largest for part in parts)
    if names and (number is None or number > len(names)):
        raise ValueError(
            f"Expected classes from 0 to {len(names) - 1} in {what}, as many as there are names. Received: "
            f"{'other values' if number is None else number - 1}."
        )
    if number is None:
        return Classes(None)
    return Classes(len(names or ()) or number, names, min(part.smallest or 0 for part in parts))
