"""Folders with a folder for each class, divided into train and test or not."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

from tfcompress.data.dataset import Dataset
from tfcompress.data.sources.source import TEST_SHARE
from tfcompress.data.splits import Failed, Stream

NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "validation", "valid", "dev"),
}
"""What the folders of a divided data set may be called."""


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """Where the samples of each class lie.

    Attributes:
        train: The folder with a folder for each class.
        test: Another of the same classes; `None`: a share of `train`.
        validation: A third; `None`: there is none.
        class_names: In the order of the alphabet.
    """

    train: pathlib.Path
    test: pathlib.Path | None
    validation: pathlib.Path | None
    class_names: tuple[str, ...]

    def files(self, suffixes: tuple[str, ...]) -> list[pathlib.Path]:
        """Return all files that end so, in all parts."""
        parts = [part for part in (self.train, self.test, self.validation) if part]
        return [path for part in parts for name in self.class_names for path in files_in(part / name, suffixes)]


def files_in(folder: pathlib.Path, suffixes: tuple[str, ...]) -> list[pathlib.Path]:
    """Return the files below a folder that end so, sorted."""
    found = (pathlib.Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if path.suffix.lower() in suffixes)


def holds(place: str, suffixes: tuple[str, ...]) -> bool:
    """Return whether there is a file that ends so in a folder of a folder, as soon as one is found."""
    return os.path.isdir(place) and any(
        name.lower().endswith(suffixes)
        for root, _, names in os.walk(place)
        for name in (names if not os.path.samefile(root, place) else ())
    )


def class_folders(place: str, suffixes: tuple[str, ...], what: str) -> ClassFolders:
    """Return where the samples of each class lie.

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
    classes = _classes(train, suffixes, what)
    for part in (parts["test"], parts["validation"]):
        if part and _classes(part, suffixes, what) != classes:
            raise ValueError(
                f"Expected the same classes in {train} and {part}. Received: {', '.join(classes)}; and "
                f"{', '.join(_classes(part, suffixes, what))}. Make a folder for each class in both."
            )
    found = ClassFolders(train, parts["test"], parts["validation"], classes)
    least = math.ceil(1 / TEST_SHARE)
    if found.test is None and len(found.files(suffixes)) < least:
        raise ValueError(
            f"Expected at least {least} {what}, of which a part is for tests. Received: {len(found.files(suffixes))} "
            f"in {train}. Take more, or make the folders train and test in it."
        )
    return found


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _classes(folder: pathlib.Path, suffixes: tuple[str, ...], what: str) -> tuple[str, ...]:
    found = _folders(folder)
    if len(found) < 2:
        names = ", ".join(path.name for path in found) or "none"
        raise ValueError(
            f"Expected a folder for each class in {folder}, at least two. Received: {names}. Put the {what} of each "
            "class into a folder that is named after it."
        )
    for path in found:
        if not files_in(path, suffixes):
            raise ValueError(
                f"Expected {what} ({', '.join(suffixes)}) in each class's folder. Received: {path}, which has none. "
                "Put some there, or remove it."
            )
    return tuple(path.name for path in found)


def read_by_class(
    place: str,
    folders: ClassFolders,
    load: Callable[..., Any],
    made: Callable[[Any], Any],
    *,
    seed: int,
    failed: Failed = lambda error: None,
) -> Dataset:
    """Return the data of folders, which one of Keras' loaders reads.

    Args:
        place: What was opened.
        folders: Where the samples lie.
        load: From a folder, and how its files are shuffled and divided as Keras' loaders take it, to a
            `tf.data.Dataset` of single samples.
        made: From that to one of samples as the model takes them.
        seed: What divides files that aren't divided.
        failed: As in `Stream`.
    """

    def part(folder: pathlib.Path) -> Stream:
        def read(seed: int | None) -> Any:
            with contextlib.redirect_stdout(io.StringIO()):
                return made(load(folder, shuffle=seed is not None, seed=seed or 0))

        return Stream(read, failed=failed)

    def share(place: int) -> Stream:
        # Keras' seed says which files are in which part, and what order they come in at first: always the same.
        def read(order: int | None) -> Any:
            how = {"validation_split": TEST_SHARE, "subset": "both", "seed": seed}
            with contextlib.redirect_stdout(io.StringIO()):  # Keras prints how many there are, even if it isn't to
                return made(load(folders.train, shuffle=True, **how)[place])

        return Stream(read, failed=failed)

    train, test = (share(0), share(1)) if folders.test is None else (part(folders.train), part(folders.test))
    validation = part(folders.validation) if folders.validation else None
    name = pathlib.Path(place).resolve().name
    return Dataset(name, train, test, validation, len(folders.class_names), folders.class_names)
