"""A folder of images by class, through `keras.utils.image_dataset_from_directory`."""

from __future__ import annotations

import pathlib
from typing import Any

import keras

from tfcompress.core.error_messages import told
from tfcompress.data.dataset import Dataset
from tfcompress.data.sources.class_folders import ClassFolders, class_folders, holds, read_by_class
from tfcompress.data.sources.model_input import image_input
from tfcompress.data.sources.source import Request, Source

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
COLORS = {1: "grayscale", 3: "rgb", 4: "rgba"}


def _open(place: str, request: Request) -> Dataset:
    folders = class_folders(place, SUFFIXES, "images")
    wanted = image_input(request, COLORS)

    def load(folder: pathlib.Path, **how: Any) -> Any:
        return keras.utils.image_dataset_from_directory(
            folder,
            label_mode="int",
            class_names=list(folders.class_names),
            color_mode=COLORS[wanted.channels],
            batch_size=None,
            image_size=wanted.size,
            verbose=False,
            **how,
        )

    return read_by_class(place, folders, load, wanted.made, seed=request.seed, failed=lambda error: _broken(folders))


def _broken(folders: ClassFolders) -> Exception | None:
    """Return an error that names the first image that can't be decoded; `None` if all can."""
    import tensorflow as tf

    for path in folders.files(SUFFIXES):
        try:
            tf.io.decode_image(tf.io.read_file(str(path)), expand_animations=False)
        except tf.errors.OpError as reason:
            return ValueError(
                f"Expected images that can be decoded. Received: {path}, which can't: {told(reason)} "
                "Replace it, or take it out."
            )
    return None


SOURCE = Source(
    "a folder of images with a folder for each class, or with train and test that are such",
    lambda place: holds(place, SUFFIXES),
    _open,
    frozenset({"rescale", "image_size"}),
)
