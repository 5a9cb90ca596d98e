"""Samples that are read one after the other: how they are mixed, divided and counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tfcompress.data.array_checks import one_hot_classes
from tfcompress.data.sources.source import TEST_SHARE
from tfcompress.data.splits import Failed, Stream

MIXED_BYTES = 1 << 28
"""Of samples that wait in memory to be drawn in another order than they are read in: as many as this holds."""


def stream(
    records: Callable[[], Any],
    samples: int,
    made: Callable[..., Any] | None,
    *,
    each: int,
    keep: Callable[[int], bool] | None = None,
    failed: Failed = lambda error: None,
) -> Stream:
    """Return records that are read in order as a split, whose epochs are mixed.

    Args:
        records: Makes a `tf.data.Dataset` of records.
        samples: How many there are.
        made: From a record to (input, target); `None`: that is what records are.
        each: Bytes of a record in memory, about: mixed are as many as `MIXED_BYTES` holds.
        keep: From a record's number to whether it belongs to this split; `None`: all do.
        failed: As in `Stream`.
    """
    kept = None if keep is None else np.array([keep(number) for number in range(samples)])
    count = samples if kept is None else int(kept.sum())

    def read(seed: int | None) -> Any:
        import tensorflow as tf

        found = records()
        if kept is not None:
            flags = tf.constant(kept)
            found = found.enumerate().filter(lambda number, _: flags[number]).map(lambda _, record: record)
        found = found.apply(tf.data.experimental.assert_cardinality(count))  # so that `fit` knows where an epoch ends
        if seed is not None:
            found = found.shuffle(max(1, min(count, MIXED_BYTES // max(each, 1))), seed=seed)
        return found if made is None else found.map(made, num_parallel_calls=tf.data.AUTOTUNE)

    return Stream(read, count, failed)


def divided(records: Callable[[], Any], samples: int, made: Callable[..., Any] | None, seed: int, **how: Any) -> Any:
    """Return two splits of records, to train with and to test on, drawn by a seed; the arguments are those of `stream`.

    Raises:
        ValueError: If there are fewer than two samples.
    """
    if samples < 2:
        raise ValueError(f"Expected at least 2 samples, of which one is for tests. Received: {samples}.")
    drawn = np.random.default_rng(seed).permutation(samples)[: max(1, round(TEST_SHARE * samples))]
    test = set(drawn.tolist())
    train = stream(records, samples, made, keep=lambda number: number not in test, **how)
    return train, stream(records, samples, made, keep=lambda number: number in test, **how)


@dataclasses.dataclass
class Targets:
    """What targets are, as far as they were seen.

    Attributes:
        samples: How many.
        classes: The largest whole number and one; `None`: they aren't whole numbers.
        one_hot: Whether each is a one-hot row.
    """

    samples: int = 0
    classes: int | None = 0
    one_hot: bool = True

    def see(self, y: np.ndarray) -> None:
        """Take in a batch of targets."""
        self.samples += len(y)
        self.one_hot = self.one_hot and y.ndim == 2 and one_hot_classes(y) is not None
        if self.one_hot:
            self.classes = max(self.classes or 0, y.shape[1])
        elif y.dtype.kind in "iub" and y.ndim == 1 and self.classes is not None:
            if y.size and int(y.min()) < 0:
                raise ValueError("Expected classes from 0 on. Received: negative ones; number them 0, 1, 2, ...")
            self.classes = max(self.classes, int(y.max()) + 1)
        else:
            self.classes = None
