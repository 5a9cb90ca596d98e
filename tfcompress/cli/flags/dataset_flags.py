"""Flags of the data that a job looks at."""

from __future__ import annotations

import functools
import math
import operator

from tfcompress.cli.flags.flag import Flag

MOST_PIXELS = 1 << 15
"""Of an image, on a side."""


def numbers(text: str) -> tuple[float, ...]:
    """Return numbers between commas, each as such or as a fraction.

    Raises:
        ValueError: If one is neither.

    Example:

    >>> numbers("1/2.5,-1"), numbers("0.5")
    ((0.4, -1.0), (0.5,))
    """
    try:
        parts = [[float(number) for number in part.split("/")] for part in text.split(",")]
        found = tuple(functools.reduce(operator.truediv, part) for part in parts)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"Expected numbers such as 1/255 or 1/127.5,-1. Received: {text!r}.") from error
    if not all(map(math.isfinite, found)):
        raise ValueError(f"Expected finite numbers. Received: {text!r}.")
    return found


def _rescale(text: str | None) -> bool:
    try:
        found = (1.0,) if text is None else numbers(text)
    except ValueError:
        return False
    return len(found) <= 2 and found[0] != 0


def _size(text: str | None) -> bool:
    try:
        found = (1.0,) if text is None else numbers(text)
    except ValueError:
        return False
    return len(found) <= 2 and all(size in range(1, MOST_PIXELS) for size in found)


TITLE = "Data"

FLAGS = {
    "data": Flag(
        "What to look at; it may be left out with a model that the job train made of scikit-learn's digits, and where "
        "no model is given. An .npz file with x_train, y_train, x_test and y_test; a folder with a folder of images, "
        "or of WAV files, for each class, or with train and test (and val) that are such; a .csv file whose first "
        "line names the columns, or a folder with train.csv and test.csv (see --label); TFRecords (see --features); "
        "tfds:NAME, a data set of TensorFlow Datasets (see --data_dir); package.module:function, which returns such "
        "data. What isn't divided is, class by class, by --seed.",
        shown="PLACE",
    ),
    "label": Flag("With a .csv file or TFRecords: the column, or feature, that is to be predicted.", shown="NAME"),
    "features": Flag(
        'With TFRecords: a .json file that says what a record holds, as {"x": {"dtype": "float32", "shape": [4]}, '
        '"photo": {"encoding": "image", "shape": [32, 32, 3]}, "label": {"dtype": "int64", "names": ["a", "b"]}}.',
        shown="FILE",
    ),
    "data_dir": Flag("With tfds:NAME: the folder that it was prepared in.", shown="FOLDER"),
    "rescale": Flag(
        "With images: what pixels, 0 to 255, are multiplied by, and what is then added: 1/255 or 1/127.5,-1; by "
        "default they are as they are.",
        shown="SCALE[,OFFSET]",
        valid=_rescale,
        wanted="Expected --rescale with a number or two, such as 1/255 or 1/127.5,-1.",
    ),
    "image_size": Flag(
        "With images, for a model that takes any size or is made here: what they are resized to (made here: 64).",
        shown="HEIGHT[,WIDTH]",
        valid=_size,
        wanted="Expected --image_size with one or two whole numbers, such as 96 or 96,128.",
    ),
}
