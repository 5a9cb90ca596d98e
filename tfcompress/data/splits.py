"""Samples with their targets, of one purpose: in memory, or read when they are needed."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.data.epoch_batches import WholeBatches, rows_of
from tfcompress.data.named_inputs import TensorInfo

BATCH_SIZE = 32
"""Samples at once where nothing is trained."""

Infos = TensorInfo | Mapping[str, TensorInfo]

Failed = Callable[[Exception], Exception | None]
"""From what was raised while samples were read to an error that says which file is to blame, if one is."""


class Split(abc.ABC):
    """Samples with their targets, to train with, to validate or to test on.

    Attributes:
        samples: How many there are.
        x: Shape and dtype of a batch of inputs, the first size `None`; of several inputs by name.
        y: Shape and dtype of a batch of targets; of several outputs by name.
    """

    samples: int
    x: Infos
    y: Infos
    endless: bool = False
    """Whether what `shuffled` returns goes on with the next epoch, so that `fit` has to be told the steps of one."""

    @abc.abstractmethod
    def shuffled(
        self, batch_size: int, *, part: int = 0, parts: int = 1, begun: int = 0, whole: bool = False, skipped: int = 0
    ) -> Any:
        """Return what `fit` is given, in an order that is drawn anew for every epoch by numpy's global seed.

        Args:
            batch_size: Samples in all parts of a batch together.
            part: Which part of each batch, from 0: that of one of several processes.
            parts: How many.
            begun: Epochs that are done: the order is that of the next.
            whole: Whether an incomplete last batch is left out.
            skipped: Batches of the next epoch that are done, too; then it is for a `fit` of that epoch alone.
        """

    @abc.abstractmethod
    def batches(self) -> Any:
        """Return what `fit` validates on, in the order that it has."""

    @abc.abstractmethod
    def in_order(self) -> Any:
        """Return inputs and targets, as `tfc.evaluate` takes them, in the order that they have; again and again."""

    @abc.abstractmethod
    def first(self, count: int) -> Any:
        """Return the first inputs, or all if there are fewer, as arrays."""

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """Return what surrounds the use of the samples, so that an error names the file that is to blame."""
        return contextlib.nullcontext()

    @abc.abstractmethod
    def drawn(self, count: int, seed: int = 0) -> Any:
        """Return `count` inputs, or all if there are fewer, drawn by a seed: data is often sorted."""

    @abc.abstractmethod
    def retargeted(self, change: Callable[[Any], Any]) -> Split:
        """Return the same samples with what a function makes of their targets: of one, or of an array of them.

        Targets of several outputs are given to it by name.
        """


class ArraySplit(Split):
    """Arrays in memory.

    Args:
        x: Inputs, samples first; several by name.
        y: Targets; of several outputs by name.

    Example:

    >>> split = ArraySplit(np.arange(6.0).reshape(6, 1), np.zeros(6, int))
    >>> split.samples, split.x.shape, len(split.drawn(4)), len(split.shuffled(4))
    (6, (None, 1), 4, 2)
    """

    def __init__(self, x: np.ndarray | Mapping[str, np.ndarray], y: Any):
        self.arrays = x, y
        self.samples = len(keras.tree.flatten(x)[0])
        self.x, self.y = (keras.tree.map_structure(_info_of, part) for part in (x, y))

    def shuffled(
        self, batch_size: int, *, part: int = 0, parts: int = 1, begun: int = 0, whole: bool = False, skipped: int = 0
    ) -> Any:
        """Return batches as a `keras.utils.PyDataset`."""
        return WholeBatches(*self.arrays, batch_size, part, parts, begun=begun, whole=whole, skipped=skipped)

    def batches(self) -> Any:
        """Return the arrays."""
        return self.arrays

    def in_order(self) -> Any:
        """Return the arrays."""
        return self.arrays

    def first(self, count: int) -> Any:
        """Return the first inputs."""
        return rows_of(self.arrays[0], slice(count))

    def drawn(self, count: int, seed: int = 0) -> Any:
        """Return inputs that a permutation puts first, in the order of the array."""
        return rows_of(self.arrays[0], np.sort(np.random.default_rng(seed).permutation(self.samples)[:count]))

    def retargeted(self, change: Callable[[Any], Any]) -> ArraySplit:
        """Return the same inputs with other targets."""
        return ArraySplit(self.arrays[0], change(self.arrays[1]))


class Stream(Split):
    """Samples that a `tf.data.Dataset` reads when they are needed; none is kept.

    Args:
        read: A function from a seed to a `tf.data.Dataset` of single samples (input, target): in an order that is
            drawn anew each time that it is gone through, the same one of each time for the same seed; without a seed
            in one order.
        samples: How many there are; `None`: as the `tf.data.Dataset` says.
        failed: From what was raised in reading to an error that says which file is to blame.

    Example:

    >>> import tensorflow as tf
    >>> read = lambda seed: tf.data.Dataset.from_tensor_slices((np.zeros((6, 2), "float32"), np.arange(6)))
    >>> split = Stream(read)
    >>> split.samples, split.x.shape, [len(y) for _, y in split.in_order()()], split.first(4).shape
    (6, (None, 2), [6], (4, 2))
    """

    endless = True

    def __init__(
        self,
        read: Callable[[int | None], Any],
        samples: int | None = None,
        failed: Failed = lambda error: None,
    ):
        found = read(None)
        self.read, self.failed = read, failed
        self.samples = int(found.cardinality()) if samples is None else samples
        x, y = found.element_spec
        self.x, self.y = (keras.tree.map_structure(_info, part) for part in (x, y))

    def shuffled(
        self, batch_size: int, *, part: int = 0, parts: int = 1, begun: int = 0, whole: bool = False, skipped: int = 0
    ) -> Any:
        """Return the batches of one epoch after the other as one `tf.data.Dataset`, without an end.

        Each pass through the samples has the next order of their seed. Keras opens more iterators than it needs, so
        that epochs may not be passes through a `tf.data.Dataset` of one.
        """
        samples = self.read(int(np.random.randint(2**31)))
        if parts == 1:
            batches = samples.batch(batch_size, drop_remainder=whole)
        else:  # the parts of a batch are as many small ones, one after the other
            small = samples.batch(batch_size // parts, drop_remainder=True)
            batches = small.take(self.samples // batch_size * parts).shard(parts, part)
        batches = batches.repeat().skip(skipped).prefetch(2) if skipped else batches.repeat().prefetch(2)
        for _ in range(begun):
            iter(batches)
        return batches

    def batches(self) -> Any:
        """Return batches as a `tf.data.Dataset`."""
        return self.read(None).batch(BATCH_SIZE).prefetch(2)

    def in_order(self) -> Any:
        """Return a function that yields batches."""

        def every() -> Iterator[Any]:
            with self.reading():
                yield from self.batches()

        return every

    def first(self, count: int) -> Any:
        """Return the first inputs, as an array, or by name."""
        return self._arrays(self.read(None), count)

    def drawn(self, count: int, seed: int = 0) -> Any:
        """Return the inputs that come first in an order that a seed draws, as an array, or by name."""
        return self._arrays(self.read(seed), count)

    def retargeted(self, change: Callable[[Any], Any]) -> Stream:
        """Return the same samples, read in the same order, with other targets."""
        return Stream(lambda seed: self.read(seed).map(lambda x, y: (x, change(y))), self.samples, self.failed)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Raise what names the file that is to blame."""
        try:
            yield
        except Exception as error:
            found = self.failed(error) if type(error).__module__.startswith("tensorflow") else None
            if found is None:
                raise
            raise found from error

    def _arrays(self, samples: Any, count: int) -> Any:
        with self.reading():
            batch = next(iter(samples.take(count).batch(count)))[0]
        return keras.tree.map_structure(lambda tensor: tensor.numpy(), batch)


def _info_of(array: np.ndarray) -> TensorInfo:
    return TensorInfo((None, *array.shape[1:]), str(array.dtype))


def _info(spec: Any) -> TensorInfo:
    return TensorInfo((None, *spec.shape), spec.dtype.name)
