"""All sources of data, and the one that a place belongs to."""

from __future__ import annotations

import os

from tfcompress.data.dataset import Dataset
from tfcompress.data.sources import audio, csv_table, function, images, npz, tfds, tfrecords
from tfcompress.data.sources.source import OPTIONS, Request, Source

SOURCES: tuple[Source, ...] = (
    npz.SOURCE,
    tfds.SOURCE,
    function.SOURCE,
    csv_table.SOURCE,
    tfrecords.SOURCE,
    images.SOURCE,
    audio.SOURCE,
)
"""The first that takes a place opens it. A new one is a module of its own with a `SOURCE`."""


def source_of(place: str) -> Source:
    """Return the source that a place belongs to.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If what is there is of no kind that is known.

    Example:

    >>> source_of("my.npz").form
    'an .npz file with the arrays x_train, y_train, x_test, y_test'
    """
    for source in SOURCES:
        if source.takes(place):
            return source
    forms = "; ".join(source.form for source in SOURCES)
    if not os.path.exists(place):
        raise FileNotFoundError(f"Expected data: {forms}. Received: {place}, which isn't there.")
    inside = sorted(os.listdir(place)) if os.path.isdir(place) else []
    loose = next((name for name in inside if name.lower().endswith((*images.SUFFIXES, *audio.SUFFIXES))), None)
    if loose:
        raise ValueError(
            f"Expected a folder for each class in {place}, which names it. Received: files such as {loose} in none. "
            "Put those of each class into a folder."
        )
    empty = os.path.isdir(place) and not inside
    raise ValueError(
        f"Expected data: {forms}. Received: {place}, which is {'an empty folder' if empty else 'none of these'}."
    )


def open_dataset(place: str, request: Request) -> Dataset:
    """Return the data at a place.

    Args:
        place: A file, a folder, a name: whatever one of `SOURCES` takes.
        request: What is asked of it.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If the data, or something of the request, doesn't fit.
    """
    source = source_of(place)
    for name in OPTIONS:
        if name not in source.options and getattr(request, name) is not None:
            raise ValueError(
                f"Expected no `{name}` with {source.form}, where it has no effect. Received: "
                f"{name}={getattr(request, name)!r}. Leave it out."
            )
    for name, said in source.needs.items():
        if getattr(request, name) is None:
            raise ValueError(f"Expected `{name}` with {source.form}. Received: none. It names {said(place)}.")
    return _from_zero(source.open(place, request), request.outputs)


def _from_zero(data: Dataset, outputs: int | None) -> Dataset:
    """Return data whose classes are numbered from 1 with classes from 0, named by their numbers; other data as it is.

    So is data with targets of several outputs.

    Args:
        data: Of any source.
        outputs: How many numbers the model gives, if there is one: whether it has an output for 0 says it.
    """
    count = data.classes - 1 if isinstance(data.classes, int) else 0
    if (
        data.smallest != 1
        or data.class_names
        or count < 2
        or outputs not in (None, count, *((1,) if count == 2 else ()))
    ):
        return data
    train, test = (split.retargeted(lambda y: y - 1) for split in (data.train, data.test))
    validation = data.validation and data.validation.retargeted(lambda y: y - 1)
    names = tuple(str(number + 1) for number in range(count))
    return Dataset(data.name, train, test, validation, count, names, drawn=data.drawn)
