"""What a model takes of a source: images of a size, waves of a length, columns by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import keras

from tfcompress.data.named_inputs import TensorInfo
from tfcompress.data.sources.source import Request

IMAGE_SIZE = (64, 64)
"""Of images for a small model that is made for them, where nothing else is asked for."""

PNG, JPEG, BMP = b"\x89P", b"\xff\xd8", b"BM"
"""How such files begin."""

DECODED_TO = {1: [PNG, JPEG], 4: [PNG, BMP]}
"""What TensorFlow decodes to so many channels."""


def inputs_of(model: keras.Model) -> dict[str, TensorInfo]:
    """Return shape and dtype of a model's inputs, by name."""
    return {x.name: TensorInfo(tuple(x.shape), keras.backend.standardize_dtype(x.dtype)) for x in model.inputs}


def shapes_of(request: Request) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes that inputs have without the batch, by name; without a model none."""
    return {name: tuple(info.shape[1:]) for name, info in (request.inputs or {}).items()}


@dataclasses.dataclass(frozen=True)
class ImageInput:
    """An image as a model takes it.

    Attributes:
        size: (height, width).
        channels: How many.
        flat: Whether one channel has no dimension of its own.
        dtype: What the model's input is declared as.
        rescale: (scale, offset) of pixels; `None`: 0 to 255.
    """

    size: tuple[int, int]
    channels: int
    flat: bool = False
    dtype: str = "float32"
    rescale: tuple[float, float] | None = None

    def decoded(self, contents: Any) -> Any:
        """Return the image in a file's bytes (JPEG, PNG, GIF, BMP, WebP) as the model takes it."""
        import tensorflow as tf

        def read(channels: int) -> Any:
            return tf.io.decode_image(contents, channels, expand_animations=False)

        # Every format is decoded to three channels, only some to another number.
        if self.channels == 3:
            return self.made(read(3))
        direct = tf.reduce_any(tf.strings.substr(contents, 0, 2) == DECODED_TO[self.channels])
        if self.channels == 1:
            return self.made(tf.cond(direct, lambda: read(1), lambda: tf.image.rgb_to_grayscale(read(3))))
        opaque = [[0, 0], [0, 0], [0, 1]]
        return self.made(tf.cond(direct, lambda: read(4), lambda: tf.pad(read(3), opaque, constant_values=255)))

    def made(self, image: Any) -> Any:
        """Return an image of any size, whose pixels are 0 to 255, as the model takes it."""
        import tensorflow as tf

        image = tf.ensure_shape(tf.image.resize(image, self.size), (*self.size, self.channels))
        if self.rescale is not None:
            scale, offset = self.rescale
            image = tf.cast(image, "float32") * scale + offset
        if self.flat:
            image = tf.squeeze(image, -1)
        elif keras.config.image_data_format() == "channels_first":
            image = tf.transpose(image, (2, 0, 1))
        if self.dtype.startswith(("int", "uint")):
            image = tf.round(image)
        return tf.cast(image, self.dtype)


def image_input(
    request: Request, channels: Collection[int], own: Sequence[int | None] = (None, None, None)
) -> ImageInput:
    """Return what images are to be made into.

    Args:
        request: With the model, if there is one.
        channels: How many there may be.
        own: (height, width, channels) that the images have, where that is known; without a model they keep it.

    Raises:
        ValueError: If the model takes no images, leaves their size free and none is asked for, or has another size
            than that.
    """
    asked, shapes = request.image_size, shapes_of(request)
    if not shapes:
        height, width = (size or other for size, other in zip(own[:2], IMAGE_SIZE, strict=True))
        return ImageInput(asked or (height, width), own[2] or 3, rescale=request.rescale)
    name, shape = next(iter(shapes.items()))
    if len(shapes) > 1 or len(shape) not in (2, 3):
        raise ValueError(
            f"Expected a model with one input that is an image, (height, width, channels). Received: "
            f"one with inputs {shapes}. Give it the data that it was made for."
        )
    last = len(shape) == 2 or keras.config.image_data_format() == "channels_last"
    size, depth = (shape[:2], shape[2:]) if last else (shape[1:], shape[:1])
    last_size = depth[0] if depth else 1
    if last_size is None or last_size not in channels:
        raise ValueError(
            f"Expected a model whose input has {' or '.join(map(str, sorted(channels)))} channels, as images have. "
            f"Received: one with input {name!r} of shape {shape}."
        )
    given = tuple(one if one is not None else other for one, other in zip(size, asked or size, strict=True))
    found = tuple(one for one in given if one is not None)
    if len(found) < len(size):
        raise ValueError(
            f"Expected an image size with a model that takes any: input {name!r} has shape {shape}. Received: none. "
            "Give image_size, (height, width)."
        )
    if asked is not None and found != tuple(asked):
        raise ValueError(
            f"Expected images of the size that the model takes, {found}. Received: image_size={asked}. Leave it out."
        )
    dtype = (request.inputs or {})[name].dtype
    return ImageInput((found[0], found[1]), last_size, len(shape) == 2, dtype, request.rescale)
