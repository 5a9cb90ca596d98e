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
    empty = os.path.isdir(place) and not os.listdir(place)
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
    return source.open(place, request)
