"""TFRecords of `tf.train.Example`, with a `.json` file that says what they hold.

The file holds an object for each feature, by name: `dtype` ("float32", "int64", "string") and `shape`; or `encoding`,
"image" (JPEG, PNG, GIF, BMP; `shape` is (height, width, channels)) or "raw" (the bytes of a tensor of `dtype` and
`shape`). That of the target may have `names`, of the classes in their order.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tfcompress.core.arguments import short
from tfcompress.core.error_messages import told
from tfcompress.data.dataset import Dataset
from tfcompress.data.sources.class_folders import NAMES
from tfcompress.data.sources.model_input import image_input, shapes_of
from tfcompress.data.sources.samples import Targets, divided, stream
from tfcompress.data.sources.source import Request, Source

SUFFIX = ".tfrecord"
DTYPES = ("float32", "int64", "string")
RAW = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
KEYS = {"dtype", "shape", "encoding", "names"}


@dataclasses.dataclass(frozen=True)
class Feature:
    """What a feature of a record is."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    encoding: str | None
    names: tuple[str, ...] | None

    def parser(self) -> Any:
        """Return what `tf.io.parse_single_example` takes."""
        import tensorflow as tf

        if self.encoding:
            return tf.io.FixedLenFeature((), tf.string)
        return tf.io.FixedLenFeature(self.shape, self.dtype)

    def decoded(self, value: Any) -> Any:
        """Return the tensor of a parsed feature, but for an image."""
        import tensorflow as tf

        return tf.reshape(tf.io.decode_raw(value, self.dtype), self.shape) if self.encoding == "raw" else value


def read_features(path: str | None) -> dict[str, Feature]:
    """Return what a `.json` file says that records hold.

    Raises:
        FileNotFoundError: If it isn't there.
        ValueError: If none is named, or it says something else.
    """
    form = '{"x": {"dtype": "float32", "shape": [4]}, "label": {"dtype": "int64"}}'
    if path is None:
        raise ValueError(
            f"Expected a .json file that says what the TFRecords hold, as `features`: {form}. Received: none."
        )
    try:
        given = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected a .json file such as {form}. Received: {path}, which is none: {error}.") from error
    if not isinstance(given, dict) or not given or not all(isinstance(entry, dict) for entry in given.values()):
        raise ValueError(f"Expected an object for each feature, such as {form}. Received: {short(given)} in {path}.")
    return {name: _feature(name, entry, path) for name, entry in given.items()}


def _feature(name: str, entry: Mapping[str, Any], path: str) -> Feature:
    encoding, shape = entry.get("encoding"), entry.get("shape", [])
    dtype = entry.get("dtype", "uint8" if encoding == "image" else "float32")
    names = entry.get("names")
    allowed: dict[Any, tuple[str, ...]] = {None: DTYPES, "raw": RAW, "image": ("uint8",)}
    sizes = isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
    named = names is None or (isinstance(names, list) and all(isinstance(one, str) for one in names) and len(names) > 1)
    if set(entry) - KEYS or encoding not in allowed or dtype not in allowed[encoding] or not sizes or not named:
        raise ValueError(
            f"Expected of a feature dtype ({', '.join(DTYPES)}) and shape, or encoding 'image' or 'raw' with them, and "
            f"names of classes. Received: {name}={short(dict(entry))} in {path}."
        )
    if encoding == "image" and len(shape) != 3:
        raise ValueError(f"Expected [height, width, channels] as the shape of an image. Received: {name}: {shape}.")
    return Feature(name, dtype, tuple(shape), encoding, tuple(names) if names else None)


def _open(place: str, request: Request) -> Dataset:
    import tensorflow as tf

    features = read_features(request.features)
    label = request.label or "label"
    if label not in features or len(features) < 2:
        raise ValueError(
            f"Expected `label` to be one of several features: {', '.join(features)}. Received: {label!r}. Name the one "
            "that is to be predicted."
        )
    target = features[label]
    as_input = _as_input({name: feature for name, feature in features.items() if name != label}, request)
    parsers = {name: feature.parser() for name, feature in features.items()}

    def made(record: Any) -> Any:
        parsed = tf.io.parse_single_example(record, parsers)
        return as_input(parsed), target.decoded(parsed[label])

    files = _files(place)
    found = {part: _scanned(paths, target, parsers[label]) for part, paths in files.items()}
    classes = {part: one.classes for part, one in found.items()}
    number = None if None in classes.values() else max(one or 0 for one in classes.values())
    if target.names and (number is None or number > len(target.names)):
        raise ValueError(
            f"Expected classes from 0 to {len(target.names) - 1} in {label!r}, as many as there are names. Received: "
            f"{'other values' if number is None else number - 1}."
        )

    def split(part: str) -> Any:
        return stream(_records(files[part]), found[part].samples, made, each=_each(files[part], found[part].samples))

    if "test" in files:
        train, test = split("train"), split("test")
    else:
        samples = found["train"].samples
        each = _each(files["train"], samples)
        train, test = divided(_records(files["train"]), samples, made, request.seed, each=each)
    validation = split("validation") if "validation" in files else None
    name = pathlib.Path(place).resolve().name.split(SUFFIX)[0]
    return Dataset(name, train, test, validation, len(target.names) if target.names else number, target.names)


def _records(paths: list[str]) -> Any:
    import tensorflow as tf

    return lambda: tf.data.TFRecordDataset(paths)


def _each(paths: list[str], samples: int) -> int:
    return sum(os.path.getsize(path) for path in paths) // max(samples, 1)


def _scanned(paths: list[str], target: Feature, parser: Any) -> Targets:
    """Go through records once, and look at the targets alone."""
    import tensorflow as tf

    found = Targets()
    for path in paths:
        parsed = tf.data.TFRecordDataset(path).map(
            lambda record: tf.io.parse_single_example(record, {target.name: parser})[target.name]
        )
        try:
            for batch in parsed.map(target.decoded).batch(1024):
                found.see(batch.numpy())
        except tf.errors.OpError as error:
            raise ValueError(
                f"Expected records of tf.train.Example with a feature {target.name!r}, as `features` says. Received: "
                f"{path}: {told(error)}"
            ) from error
    if not found.samples:
        raise ValueError(f"Expected at least one record. Received: none in {', '.join(paths)}.")
    return found


def _as_input(features: Mapping[str, Feature], request: Request) -> Any:
    """Return a function from parsed features to what a model takes: an array, or one by name for each of its inputs."""
    import tensorflow as tf

    shapes = shapes_of(request)
    images = [feature for feature in features.values() if feature.encoding == "image"]
    if len(features) > 1 and set(shapes) != set(features):
        raise ValueError(
            f"Expected a model with an input for each of the features {', '.join(features)}. Received: "
            f"{'one with inputs ' + ', '.join(shapes) if shapes else 'no model'}. Leave others out of `features`."
        )
    if len(features) > 1 and images:
        raise ValueError(
            f"Expected an image alone. Received: {', '.join(features)}. Give a function that makes the data: "
            "package.module:function."
        )
    if images:
        (feature,) = images
        wanted = image_input(request, (1, 3, 4), feature.shape)

        def as_image(parsed: Mapping[str, Any]) -> Any:
            image = tf.io.decode_image(parsed[feature.name], wanted.channels, expand_animations=False)
            return wanted.pixels(tf.ensure_shape(tf.image.resize(image, wanted.size), (*wanted.size, wanted.channels)))

        return as_image
    if request.rescale is not None or request.image_size is not None:
        raise ValueError(
            f"Expected no `rescale` and `image_size` without an image. Received: {', '.join(features)}. Leave them out."
        )
    if len(features) > 1:
        return lambda parsed: {name: feature.decoded(parsed[name]) for name, feature in features.items()}
    (feature,) = features.values()
    return lambda parsed: feature.decoded(parsed[feature.name])


def _files(place: str) -> dict[str, list[str]]:
    """Return the files by what they are for: as the folders that they are in, or their names, begin or end."""
    root = pathlib.Path(place)
    if not root.is_dir():
        return {"train": [str(root)]}
    found: dict[str, list[str]] = {}
    for path in sorted(path for path in root.rglob("*") if SUFFIX in path.name and path.is_file()):
        words = {*path.relative_to(root).parent.parts, *path.name.split(SUFFIX)[0].replace("_", "-").split("-")}
        words |= set(path.name.split("."))
        part = next((part for part, names in NAMES.items() if words & set(names)), "")
        found.setdefault(part, []).append(str(path))
    rest = found.pop("", [])
    if rest and found:
        raise ValueError(
            f"Expected all files divided into train and test by their names, or none. Received: {rest[0]}. Put them "
            "into folders train and test."
        )
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    if rest:
        return {"train": rest}
    if "train" not in found:
        raise ValueError(f"Expected files to train with, by their names. Received: {', '.join(found)} in {place}.")
    return found


def _takes(place: str) -> bool:
    path = pathlib.Path(place)
    if not path.is_dir():
        return SUFFIX in path.name
    return any(SUFFIX in name for _, _, names in os.walk(path) for name in names)


SOURCE = Source(
    "TFRecords (.tfrecord), a file or a folder of them",
    _takes,
    _open,
    frozenset({"label", "features", "rescale", "image_size"}),
)
