"""Data of a search: what it trains with, what it chooses by, and what it proves the end result on."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.data.array_checks import one_hot_classes
from tfcompress.data.dataset import Data, Dataset, of_each
from tfcompress.data.reading import pairs
from tfcompress.data.sources.function import streamed
from tfcompress.data.sources.targets import Classes, Targets, classes_of
from tfcompress.data.splits import ArraySplit
from tfcompress.search.named_data import is_tf_data, pair_of

SHARE = 1 / 3
"""Of the validation data, what the search chooses by."""

MOST_SHARED = 0.01
"""Of the validation samples may be among those to train with, beside what repeats by chance: data often has a few."""

Pair = tuple[Any, Any]


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a search is given.

    Attributes:
        data: to train and calibrate with; its test part is what the search chooses by.
        selection: (x, y) that the search chooses by.
        proof: (x, y) that nothing is chosen by.
        digest: of the validation data: each sample with its target, in their order.
        copies: samples that were left out, since others are the same.
    """

    data: Dataset
    selection: Pair
    proof: Pair
    digest: str
    copies: int = 0

    @property
    def samples(self) -> int:
        """How many there are to choose by and to prove on."""
        return sum(len(keras.tree.flatten(x)[0]) for x, _ in (self.selection, self.proof))

    def whole(self) -> Parts:
        """Return the same with all samples to prove on, as where nothing is chosen."""
        pair = keras.tree.map_structure(lambda a, b: np.concatenate([a, b]), self.selection, self.proof)
        return dataclasses.replace(self, proof=pair)


def parts_of(data: Any, validation: Any, seed: int) -> Parts:
    """Divide validation data by a seed, and see that it isn't what is trained with.

    Samples with the same inputs come into the same part, and copies, with the same target too, count once. Where more
    than 1 % of the training and of the validation samples occur again among themselves, as rows of a few columns of
    classes do, they are no copies: each counts.

    Args:
        data: a `Dataset`; `(x, y)`, each of several in a dict by name; a `tf.data.Dataset` of batches of both,
            which is read anew for each epoch; or what else yields batches, which are kept.
        validation: likewise, but that batches are kept; `None`: the test part of a `Dataset`.
        seed: of the division.

    Raises:
        ValueError: there is none, there are no targets, or over 1 % of them are samples to train with; where samples
            repeat by chance, over 1 % beyond as many as occur again in the training data.

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
    if is_tf_data(data):
        data, held = _read_anew(data, held)
    if isinstance(data, Dataset):
        batches = pairs(data.train.in_order())
    else:
        x, y = pair_of(data)
        batches = iter([(x, y)])
    rows, whole = _digests(held[0]), _digests(*held)
    trained = Counter(row for part, _ in batches for row in _digests(part))
    _check_apart(rows, trained)
    own = Counter(rows)
    kept = np.arange(len(rows))
    groups = kept
    if min(_repeated(own), _repeated(trained)) <= MOST_SHARED:
        kept = np.sort(list({row: place for place, row in reversed(list(enumerate(whole)))}.values()))
        number = {row: place for place, row in enumerate(own)}
        groups = np.array([number[rows[place]] for place in kept])
    order = np.random.default_rng(seed).permutation(len(np.unique(groups)))
    chosen = np.isin(groups, order[: round(SHARE * len(order))])
    selection, proof = (_rows(held, kept[part]) for part in (chosen, ~chosen))
    if isinstance(data, Dataset):
        made = dataclasses.replace(_plain(data), test=ArraySplit(*selection))
    else:
        made = Data("data", x, y, *selection)
        selection, proof = ((x, _without_one_hot(y, made.classes)) for x, y in (selection, proof))
    digest = hashlib.sha256(b"".join(whole)).hexdigest()
    return Parts(made, selection, proof, digest, len(rows) - len(kept))


def _read_anew(data: Any, held: Pair) -> tuple[Dataset, Pair]:
    """Return a `tf.data.Dataset` as data that is read anew for each epoch, and other samples with targets like it."""
    found = streamed(data, lambda: data, "data")
    x, y = held
    named = y if isinstance(y, Mapping) else {"": y}
    if set(named) != set(found.named):
        raise ValueError(
            f"Expected the same targets in data and validation. Received: {list(found.named)} and {list(named)}."
        )
    both = {name: _like(seen, named[name]) for name, seen in found.named.items()}
    classes = of_each({name: one for name, (one, _) in both.items()})
    how = {
        "classes": of_each({name: one.number for name, (one, _) in both.items()}),
        "class_names": of_each({name: one.names for name, (one, _) in both.items()}),
        "smallest": 0 if isinstance(classes, Mapping) else classes.smallest,
    }
    y = of_each({name: values for name, (_, values) in both.items()})
    return Dataset("data", found.split(how["class_names"]), ArraySplit(x, y), **how), (x, y)


def _like(targets: Targets, y: np.ndarray) -> tuple[Classes, np.ndarray]:
    """Return what the classes of targets and of other ones are, and the other ones as numbers of these."""
    seen = Targets()
    seen.see(y)
    classes = classes_of([targets, seen])
    if classes.names:
        y = np.searchsorted(classes.names, y.astype(str).reshape(len(y)))
    elif classes.number is not None:
        rows = one_hot_classes(y) if y.ndim == 2 else None
        y = y.reshape(len(y)) if rows is None else rows
    return classes, y


def _without_one_hot(y: Any, classes: Any) -> Any:
    """Return targets of which one-hot rows that were taken for classes are these."""
    if isinstance(y, Mapping):
        return {name: _without_one_hot(one, classes[name]) for name, one in y.items()}
    rows = one_hot_classes(y) if y.ndim == 2 and classes is not None else None
    return y if rows is None else rows


def _plain(data: Dataset) -> Dataset:
    """Return a dataset whose parts can be replaced."""
    return Dataset(**{field.name: getattr(data, field.name) for field in dataclasses.fields(Dataset)})


def _rows(pair: Pair, places: np.ndarray) -> Pair:
    x, y = (keras.tree.map_structure(lambda a: a[places], part) for part in pair)
    return x, y


def _digests(x: Any, y: Any = ()) -> list[bytes]:
    """Return a digest of each sample, of its target, too; whole numbers are those of any dtype."""
    arrays = [np.asarray(array) for array in keras.tree.flatten(x)]
    count = len(arrays[0])
    arrays = [array.astype(np.float32) if array.dtype.kind in "fiub" else array for array in arrays]
    arrays += [np.asarray(array) for array in keras.tree.flatten(y)]
    if any(len(array) != count for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"Expected as many targets as inputs. Received: arrays of shapes {shapes}.")
    found = []
    for place in range(count):
        row = hashlib.blake2b(digest_size=12)
        for array in arrays:
            value = array[place]
            row.update(repr(value).encode() if array.dtype.kind in "UOS" else value.tobytes())
        found.append(row.digest())
    return found


def _repeated(rows: Counter[bytes]) -> float:
    """Return the share of samples that occur again among themselves."""
    return sum(count for count in rows.values() if count > 1) / max(1, rows.total())


def _check_apart(rows: list[bytes], trained: Counter[bytes]) -> None:
    """Raise ValueError if samples are among those to train with, and more than chance brings there.

    By chance a sample is in the training data as likely as one of those is there again. Where the validation samples
    don't repeat themselves accordingly, the training data has copies, and chance explains no more than they do.
    """
    count, total = len(rows), trained.total()
    shared = sum(row in trained for row in rows)
    twins = count * _repeated(Counter(rows))
    chance = min(_repeated(trained), (twins + 3) / count * total / count)
    if shared > MOST_SHARED * count + chance * count + 3 * math.sqrt(chance * (1 - chance) * count):
        by_chance = f", where repeats within data explain about {round(chance * count):,}" if chance else ""
        raise ValueError(
            f"Expected validation data that isn't trained with. Received: samples of which {shared:,} of {count:,} are "
            f"in data, too{by_chance}. Take them out of one of both: what a model was trained with doesn't show what "
            "it is worth."
        )
