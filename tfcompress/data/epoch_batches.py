"""Batches of training data in an order that each epoch has, and the part that one of several processes feeds."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def rows_of(x: Any, rows: Any) -> Any:
    """Return some rows of an array, or of each of several in a dict.

    >>> {name: rows.tolist() for name, rows in rows_of({"a": np.arange(5), "b": np.arange(9, 4, -1)}, [1, 3]).items()}
    {'a': [1, 3], 'b': [8, 6]}
    """
    return keras.tree.map_structure(lambda array: array[rows], x)


class WholeBatches(keras.utils.PyDataset):
    """A part of each batch, from an order of the samples that is drawn anew for every epoch by numpy's global seed.

    All parts together, one from each process, are the batches that a single process has.

    Args:
        x: Inputs, samples first; several by name.
        y: Targets; of several outputs by name.
        batch_size: Samples in all parts of a batch together.
        part: Which part, from 0.
        parts: How many.
        begun: Epochs that are done: the order is that of the next.
        whole: Whether an incomplete last batch is left out.
        skipped: Batches of that epoch that are done, too. They are left out of each: it is for a `fit` of one epoch.

    Example:

    >>> np.random.seed(0)
    >>> one = WholeBatches(np.arange(10), np.arange(10), 4, 0, 1)
    >>> np.random.seed(0)
    >>> halves = [WholeBatches(np.arange(10), np.arange(10), 4, part, 2) for part in range(2)]
    >>> len(one), bool(np.all(one[1][0] == np.concatenate([half[1][0] for half in halves])))
    (2, False)
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        batch_size: int,
        part: int = 0,
        parts: int = 1,
        *,
        begun: int = 0,
        whole: bool = True,
        skipped: int = 0,
    ):
        super().__init__()
        self.x, self.y = x, y
        self.samples = len(keras.tree.flatten(x)[0])
        self.batch_size, self.part, self.parts, self.whole = batch_size, part, parts, whole
        self.skipped = skipped
        self.generator = np.random.default_rng(np.random.randint(2**31))
        for _ in range(begun + 1):
            self.on_epoch_end()

    def on_epoch_end(self) -> None:
        """Draw the order of the next epoch."""
        self.order = self.generator.permutation(self.samples)

    def __len__(self) -> int:
        """Return the number of batches."""
        batches = self.samples // self.batch_size if self.whole else -(-self.samples // self.batch_size)
        return batches - self.skipped

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return this part of a batch."""
        size = self.batch_size // self.parts
        begin = (index + self.skipped) * self.batch_size + self.part * size
        chosen = self.order[begin : begin + size]
        return rows_of(self.x, chosen), rows_of(self.y, chosen)
