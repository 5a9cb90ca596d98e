"""Arrays in an `.npz` file."""

from __future__ import annotations

import os
import pathlib
import zipfile
import zlib

import numpy as np

from tfcompress.data.dataset import Data
from tfcompress.data.sources.source import Request, Source

KEYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: str | os.PathLike[str]) -> Data:
    """Return the arrays `x_train`, `y_train`, `x_test` and `y_test` of an `.npz` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no `.npz` file, lacks an array, or its arrays don't fit each other.
    """
    path = pathlib.Path(path)
    if path.exists() and not zipfile.is_zipfile(path):
        raise ValueError(f"Expected an .npz file, as numpy.savez writes it. Received: {path}, which is none.")
    if not path.exists():
        raise FileNotFoundError(
            f"Expected an .npz file with the arrays {', '.join(KEYS)}. Received: no file at {path}."
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            found = list(stored)
            arrays = {key: stored[key] for key in KEYS if key in found}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError, NotImplementedError) as error:
        advice = f"is broken: {error}. Write it anew."
        if "allow_pickle" in str(error):
            advice = "holds Python objects. Write arrays of numbers or text."
        raise ValueError(
            f"Expected an .npz file that can be read to its end. Received: {path}, which {advice}"
        ) from error
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise ValueError(
            f"Expected the arrays {', '.join(KEYS)} in {path}. Received: {', '.join(found) or 'none'}; "
            f"{', '.join(missing)} missing. Write it with numpy.savez(path, x_train=..., ...)."
        )
    return Data(path.stem, *(arrays[key] for key in KEYS))


def _takes(place: str) -> bool:
    return place.endswith(".npz") or zipfile.is_zipfile(place)


def _open(place: str, request: Request) -> Data:
    return read_npz(place)


SOURCE = Source(f"an .npz file with the arrays {', '.join(KEYS)}", _takes, _open)
