"""A folder of WAV files by class, which TensorFlow decodes."""

from __future__ import annotations

import wave
from typing import Any

from tfcompress.data.dataset import Dataset
from tfcompress.data.sources.class_folders import ClassFolders, class_folders, holds, read_by_class
from tfcompress.data.sources.model_input import shapes_of
from tfcompress.data.sources.source import Request, Source

SUFFIXES = (".wav",)


def _open(place: str, request: Request) -> Dataset:
    folders = class_folders(place, SUFFIXES, "WAV files")
    shape = _shape(folders, request)

    def decoded(contents: Any) -> Any:
        import tensorflow as tf

        return tf.reshape(tf.audio.decode_wav(contents, desired_samples=shape[0]).audio, shape)

    return read_by_class(place, folders, decoded, seed=request.seed)


def _shape(folders: ClassFolders, request: Request) -> tuple[int, ...]:
    """Return the shape of a sample: the model's, else as long as the longest file, which others are padded to."""
    longest, first = 0, ""
    rate, channels = 0, 0
    for path in folders.files():
        found = _header(path)
        longest = max(longest, found[2])
        if not first:
            first, rate, channels = path, *found[:2]
        if found[:2] != (rate, channels):
            raise ValueError(
                f"Expected WAV files with one sampling rate and number of channels. Received: {rate} Hz and {channels} "
                f"in {first}, {found[0]} Hz and {found[1]} in {path}. Convert them to one."
            )
    shapes = shapes_of(request)
    if not shapes:
        return longest, channels
    shape = next(iter(shapes.values()))
    if len(shapes) > 1 or not shape or shape[1:] not in ((channels,), () if channels == 1 else (channels,)):
        raise ValueError(
            f"Expected a model whose input is a wave, (samples, {channels}) or (samples,) of one channel. Received: "
            f"one with inputs {shapes}. Put what makes spectrograms into the model, or give a "
            "function that does: package.module:function."
        )
    return (shape[0] or longest, *(channels for _ in shape[1:]))


def _header(path: str) -> tuple[int, int, int]:
    """Return a file's sampling rate, number of channels and of samples."""
    try:
        with wave.open(path, "rb") as file:
            found = file.getframerate(), file.getnchannels(), file.getnframes()
            width = file.getsampwidth()
    except (wave.Error, EOFError, OSError) as error:
        raise ValueError(
            f"Expected WAV files that can be read. Received: {path}, which can't: {error}. Replace it, or take it out."
        ) from error
    if width != 2:
        raise ValueError(
            f"Expected WAV files of 16 bits, as TensorFlow reads them. Received: {path} of {8 * width} bits. "
            "Convert it."
        )
    return found


SOURCE = Source(
    "a folder of WAV files with a folder for each class, or with train and test that are such",
    lambda place: holds(place, SUFFIXES),
    _open,
)
