"""A folder of images by class, which TensorFlow decodes."""

from __future__ import annotations

from tfcompress.data.dataset import Dataset
from tfcompress.data.sources.class_folders import class_folders, holds, read_by_class
from tfcompress.data.sources.model_input import image_input
from tfcompress.data.sources.source import Request, Source

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def _open(place: str, request: Request) -> Dataset:
    folders = class_folders(place, SUFFIXES, "images")
    return read_by_class(place, folders, image_input(request, (1, 3, 4)).decoded, seed=request.seed)


SOURCE = Source(
    "a folder of images with a folder for each class, or with train and test that are such",
    lambda place: holds(place, SUFFIXES),
    _open,
    frozenset({"rescale", "image_size"}),
)
