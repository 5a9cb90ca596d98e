"""Samples that are read one after the other: how they are mixed, divided and counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfcompress.data.sources.division import divide
from tfcompress.data.sources.targets import Targets
from tfcompress.data.splits import Failed, Stream

MIXED_BYTES = 1 << 28
"""Of samples that wait in memory to be drawn in another order than they are read in: as many as this holds."""


def stream(
    records: Callable[[], Any],
    samples: int,
    made: Callable[..., Any] | None,
    *,
    each: int,
    kept: np.ndarray | None = None,
    failed: Failed = lambda error: None,
) -> Stream:
    """Return records that are read in order as a split, whose epochs are mixed.

    Args:
        records: Makes a `tf.data.Dataset` of records.
        samples: How many there are.
        made: From a record to (input, target); `None`: that is what records are.
        each: Bytes of a record in memory, about: mixed are as many as `MIXED_BYTES` holds.
        kept: Of each record, whether it belongs to this split; `None`: all do.
        failed: As in `Stream`.
    """
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


def divided(
    records: Callable[[], Any], targets: Targets, made: Callable[..., Any] | None, seed: int, **how: Any
) -> tuple[Stream, Stream]:
    """Return two splits of records, to train with and to test on, drawn by a seed; the arguments are those of `stream`.

    Raises:
        ValueError: As `divide`.
    """
    _, test = divide(targets.samples, targets.labels(), seed, targets.named, targets.otherwise())
    kept = np.zeros(targets.samples, bool)
    kept[test] = True
    first, second = (stream(records, targets.samples, made, kept=flags, **how) for flags in (~kept, kept))
    return first, second
