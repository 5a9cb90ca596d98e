"""Folders with a folder of files for each class, divided into train and test or not."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfcompress.core.arguments import short
from tfcompress.core.error_messages import told, user_level
from tfcompress.data.dataset import Dataset
from tfcompress.data.sources.division import divide, said
from tfcompress.data.sources.source import TEST_SHARE
from tfcompress.data.splits import Stream

NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "validation", "valid", "dev"),
}
"""What the folders of a divided data set may be called."""


@dataclasses.dataclass(frozen=True)
class Part:
    """The files of one purpose.

    Attributes:
        paths: Sorted, class after class.
        labels: The class of each, as a number.
    """

    paths: tuple[str, ...]
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """The files of each class.

    Attributes:
        train: To train with.
        test: To test on; `None`: a share of `train`.
        validation: To validate on; `None`: there are none.
        class_names: In the order of the alphabet.
    """

    train: Part
    test: Part | None
    validation: Part | None
    class_names: tuple[str, ...]

    def files(self) -> list[str]:
        """Return all files, in all parts."""
        return [path for part in (self.train, self.test, self.validation) if part for path in part.paths]


def _inside(folder: str | os.PathLike[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder below a folder with the names of its files, but for what is hidden."""
    for root, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield root, sorted(name for name in names if not name.startswith("."))


def holds(place: str, suffixes: tuple[str, ...]) -> bool:
    """Return whether there is a file that ends so in a folder of a folder, as soon as one is found."""
    return os.path.isdir(place) and any(
        name.lower().endswith(suffixes)
        for root, names in _inside(place)
        for name in (names if not os.path.samefile(root, place) else ())
    )


def class_folders(place: str, suffixes: tuple[str, ...], what: str) -> ClassFolders:
    """Return the files of each class; warn of those that are left out.

    Args:
        place: A folder with a folder for each class, or one with `train` and `test` that are such.
        suffixes: How the files end.
        what: What they are, in words.

    Raises:
        ValueError: If there are fewer than two classes, one is empty, or parts have different ones.
    """
    root = pathlib.Path(place)
    inside = {path.name.lower(): path for path in _folders(root)}
    parts: dict[str, pathlib.Path | None]
    parts = {part: next((inside[n] for n in names if n in inside), None) for part, names in NAMES.items()}
    if parts["train"] is None:
        parts = {"train": root, "test": None, "validation": None}
    elif parts["test"] is None:  # what looks like a class beside them is none
        parts["test"], parts["validation"] = parts["validation"], None
    train = parts["train"] or root
    left: list[str] = []
    classes, first = _classes(train, suffixes, what, left)
    others = []
    for part in (parts["test"], parts["validation"]):
        found, files = _classes(part, suffixes, what, left) if part else (classes, None)
        if found != classes:
            raise ValueError(
                f"Expected the same classes in {train} and {part}. Received: {', '.join(classes)}; and "
                f"{', '.join(found)}. Make a folder for each class in both."
            )
        others.append(files)
    least = math.ceil(1 / TEST_SHARE)
    if others[0] is None and len(first.paths) < least:
        raise ValueError(
            f"Expected at least {least} {what}, of which a part is for tests. Received: {len(first.paths)} "
            f"in {train}. Take more, or make the folders train and test in it."
        )
    if left:
        more = f" and {len(left) - 1:,} more files" if len(left) > 1 else ""
        warnings.warn(
            f"Left out: {left[0]}{more}, which don't end as {what} that are read do ({', '.join(suffixes)}). Convert "
            "what belongs to the data.",
            stacklevel=user_level(),
        )
    return ClassFolders(first, others[0], others[1], classes)


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _classes(
    folder: pathlib.Path, suffixes: tuple[str, ...], what: str, left: list[str]
) -> tuple[tuple[str, ...], Part]:
    """Return the names of classes and their files, and take down those that are left out."""
    found = _folders(folder)
    if len(found) < 2:
        names = ", ".join(path.name for path in found) or "none"
        raise ValueError(
            f"Expected a folder for each class in {folder}, at least two. Received: {names}. Put the {what} of each "
            "class into a folder that is named after it."
        )
    paths: list[str] = []
    counts = []
    for path in found:
        files = [os.path.join(root, name) for root, names in _inside(path) for name in names]
        taken = [file for file in files if file.lower().endswith(suffixes)]
        left += [file for file in files if not file.lower().endswith(suffixes)]
        if not taken:
            raise ValueError(
                f"Expected {what} ({', '.join(suffixes)}) in each class's folder. Received: {path}, which has "
                f"{'others: ' + short(os.path.basename(files[0])) if files else 'none'}. Put some there, or remove it."
            )
        paths += sorted(taken)
        counts.append(len(taken))
    return tuple(path.name for path in found), Part(
        tuple(paths), np.repeat(np.arange(len(found), dtype="int32"), counts)
    )


def read_by_class(place: str, folders: ClassFolders, decoded: Callable[[Any], Any], *, seed: int) -> Dataset:
    """Return the data of folders.

    Args:
        place: What was opened.
        folders: The files of each class.
        decoded: From the bytes of a file to a sample as the model takes it.
        seed: What divides files that aren't divided.
    """

    def failed(error: Exception) -> Exception | None:
        return _broken(folders, decoded)

    def split(part: Part, chosen: Any = slice(None)) -> Stream:
        paths, labels = np.array(part.paths, object)[chosen], part.labels[chosen]

        def read(seed: int | None) -> Any:
            import tensorflow as tf

            found = tf.data.Dataset.from_tensor_slices((paths, labels))
            if seed is not None:
                found = found.shuffle(len(paths), seed=seed)
            return found.map(
                lambda path, label: (decoded(tf.io.read_file(path)), label), num_parallel_calls=tf.data.AUTOTUNE
            )

        return Stream(read, failed=failed)

    names = folders.class_names
    if folders.test is None:
        places = divide(len(folders.train.paths), folders.train.labels, seed, lambda label: names[label])
        train, test = (split(folders.train, chosen) for chosen in places)
    else:
        train, test = split(folders.train), split(folders.test)
    validation = split(folders.validation) if folders.validation else None
    drawn = said(seed, by_class=True) if folders.test is None else None
    return Dataset(pathlib.Path(place).resolve().name, train, test, validation, len(names), names, drawn=drawn)


def _broken(folders: ClassFolders, decoded: Callable[[Any], Any]) -> Exception | None:
    """Return an error that names the first file that can't be decoded; `None` if all can."""
    import tensorflow as tf

    for path in folders.files():
        try:
            decoded(tf.io.read_file(path))
        except (tf.errors.OpError, ValueError) as reason:
            return ValueError(
                f"Expected files that can be decoded. Received: {path}, which can't: {told(reason)} "
                "Replace it, or take it out."
            )
    return None
