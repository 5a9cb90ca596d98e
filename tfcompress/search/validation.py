"""Data of a search: what it trains with, what it chooses by, and what it proves the end result on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.data.array_checks import one_hot_classes
from tfcompress.data.dataset import Data, Dataset
from tfcompress.data.reading import pairs
from tfcompress.data.splits import ArraySplit
from tfcompress.pipeline.sweep import single_input
from tfcompress.search.judge import pair_of

SHARE = 1 / 3
"""Of the validation data, what the search chooses by."""

MOST_SHARED = 0.5
"""Of the validation samples: more of them among those to train with are the training data."""

Pair = tuple[Any, Any]


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a search is given.

    Attributes:
        data: to train and calibrate with; its test part is what the search chooses by.
        selection: (x, y) that the search chooses by.
        proof: (x, y) that nothing is chosen by.
        digest: of the validation data.
    """

    data: Dataset
    selection: Pair
    proof: Pair
    digest: str

    @property
    def samples(self) -> int:
        """How many there are to choose by and to prove on."""
        return sum(len(keras.tree.flatten(x)[0]) for x, _ in (self.selection, self.proof))

    def whole(self) -> Parts:
        """Return the same with all samples to prove on, as where nothing is chosen."""
        pair = keras.tree.map_structure(lambda a, b: np.concatenate([a, b]), self.selection, self.proof)
        return dataclasses.replace(self, proof=pair)


def single(model: keras.Model, given: Any) -> Any:
    """Return data in which the one input of a model has no name."""
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Mapping):
        return single_input(model, given[0]), given[1]
    return given


def parts_of(data: Any, validation: Any, seed: int) -> Parts:
    """Divide validation data by a seed, and see that it isn't what is trained with.

    Args:
        data: a `Dataset`; or `(x, y)`, or what yields batches of both, which are kept.
        validation: likewise; `None`: the test part of a `Dataset`.
        seed: of the division.

    Raises:
        ValueError: there is none, there are no targets, or they are samples to train with.

    Example:

    >>> x = np.arange(12.0).reshape(12, 1)
    >>> parts = parts_of((x, np.zeros(12, int)), (x + 0.5, np.zeros(12, int)), seed=0)
    >>> len(parts.selection[1]), len(parts.proof[1])
    (4, 8)
    """
    if validation is None and isinstance(data, Dataset):
        validation = data.test.in_order()
    if data is None or validation is None:
        name = "data" if data is None else "validation"
        raise ValueError(
            f"Expected {name}: (x, y), or what yields batches of both. Received: {name}=None. Give samples with "
            f"targets{'' if data is None else ', others than those in data: the budget is judged on them'}."
        )
    held = pair_of(validation)
    count = len(keras.tree.flatten(held[0])[0])
    order = np.random.default_rng(seed).permutation(count)
    chosen = round(SHARE * count)
    selection, proof = (_rows(held, np.sort(part)) for part in (order[:chosen], order[chosen:]))
    if isinstance(data, Dataset):
        made = dataclasses.replace(_plain(data), test=ArraySplit(*selection))
    else:
        x, y = pair_of(data)
        if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
            raise ValueError(
                "Expected data with one input and one target, or a tfcompress.data Dataset. Received: several. Put a "
                "model with one input in front, or compress it step by step."
            )
        made = Data("data", x, y, *selection)
        if y.ndim == 2 and one_hot_classes(y) is not None and made.classes is not None:
            selection, proof = ((x, y if y.ndim == 1 else one_hot_classes(y)) for x, y in (selection, proof))
    rows = _digests(held[0])
    _check_apart(rows, made)
    return Parts(made, selection, proof, hashlib.sha256(b"".join(sorted(rows))).hexdigest())


def _plain(data: Dataset) -> Dataset:
    """Return a dataset whose parts can be replaced."""
    return Dataset(**{field.name: getattr(data, field.name) for field in dataclasses.fields(Dataset)})


def _rows(pair: Pair, places: np.ndarray) -> Pair:
    x, y = (keras.tree.map_structure(lambda a: a[places], part) for part in pair)
    return x, y


def _digests(x: Any) -> list[bytes]:
    """Return a digest of each sample; whole numbers are those of any dtype."""
    arrays = [np.asarray(array) for array in keras.tree.flatten(x)]
    return [
        hashlib.blake2b(
            b"".join(array[place].astype(np.float32).tobytes() for array in arrays), digest_size=12
        ).digest()
        for place in range(len(arrays[0]))
    ]


def _check_apart(rows: list[bytes], data: Dataset) -> None:
    """Raise ValueError if most of the samples are among those to train with."""
    known = set(rows)
    if 2 * len(known) < len(rows):
        return  # samples are alike by their nature, as those of a few columns of classes
    seen: set[bytes] = set()
    for x, _ in pairs(data.train.in_order()):
        seen.update(known.intersection(_digests(x)))
        if len(seen) > MOST_SHARED * len(known):
            raise ValueError(
                f"Expected validation data that isn't trained with. Received: samples of which at least {len(seen):,} "
                f"of {len(known):,} are in data, too. Hold samples back: what a model was trained with doesn't show "
                "what it is worth."
            )
