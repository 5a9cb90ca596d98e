"""TFRecords of `tf.train.Example`, with a `.json` file that says what they hold (see `tfrecord_features`)."""

from __future__ import annotations

import functools
import gzip
import io
import itertools
import os
import pathlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from tfcompress.core.error_messages import told
from tfcompress.data.dataset import Dataset
from tfcompress.data.sources.class_folders import NAMES
from tfcompress.data.sources.division import said
from tfcompress.data.sources.model_input import image_input, shapes_of
from tfcompress.data.sources.samples import divided, stream
from tfcompress.data.sources.source import Request, Source
from tfcompress.data.sources.targets import Targets, classes_of
from tfcompress.data.sources.tfrecord_features import Feature, found_in, read_features

SUFFIX = ".tfrec"
"""Stands in the names of files, ".tfrecord" too."""


class File(NamedTuple):
    """A file of records, and how it is compressed, as TensorFlow calls it."""

    path: str
    compression: str


def _open(place: str, request: Request) -> Dataset:
    import tensorflow as tf

    features = read_features(request.features or "")
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
    seen = {part: _scanned(one, target, parsers[label]) for part, one in files.items()}
    classes = classes_of(list(seen.values()), target.names, repr(label))
    as_class = {part: one.as_class(classes.names) for part, one in seen.items()}
    for one in files.values():
        _try(one, made, features)

    def how(part: str) -> dict[str, Any]:
        change = as_class[part]
        return {
            "made": (lambda record: _changed(made(record), change)) if change else made,
            "each": sum(os.path.getsize(file.path) for file in files[part]) // seen[part].samples,
            "failed": lambda error: _unfit(files[part][0], error, *features),
        }

    def split(part: str) -> Any:
        return stream(lambda: _records(files[part]), seen[part].samples, **how(part))

    drawn = None
    if "test" in files:
        train, test = split("train"), split("test")
    else:
        train, test = divided(lambda: _records(files["train"]), seen["train"], seed=request.seed, **how("train"))
        drawn = said(request.seed, by_class=classes.number is not None)
    validation = split("validation") if "validation" in files else None
    name = pathlib.Path(place).resolve().name.split(SUFFIX)[0]
    return Dataset(name, train, test, validation, classes.number, classes.names, classes.smallest, drawn)


def _changed(sample: tuple[Any, Any], change: Callable[[Any], Any]) -> tuple[Any, Any]:
    return sample[0], change(sample[1])


def _records(files: list[File]) -> Any:
    """Return a `tf.data.Dataset` of the records of files, of which some may be compressed."""
    import tensorflow as tf

    kinds = itertools.groupby(files, lambda file: file.compression)
    parts = [tf.data.TFRecordDataset([file.path for file in found], kind) for kind, found in kinds]
    return functools.reduce(lambda one, other: one.concatenate(other), parts)


def _compression(path: str) -> str:
    """Return how a file is compressed: a record may begin with the bytes that a gzip file begins with."""
    try:
        with gzip.open(path) as file:
            return "GZIP" if file.read(1) else ""
    except (OSError, EOFError, zlib.error):
        return ""


def _check_whole(file: File) -> None:
    """Raise ValueError unless a compressed file has its end: TensorFlow leaves out what a broken one lacks."""
    try:
        with gzip.open(file.path) if file.compression else io.BytesIO() as opened:
            while opened.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"Expected a gzip file that can be read to its end. Received: {file.path}: {error}. Write it anew."
        ) from error


def _held(file: File) -> str:
    """Return what the first record of a file holds; empty if it can't be read."""
    try:
        return found_in(next(iter(_records([file]))).numpy())
    except Exception:  # none, or a broken one, which is another error's matter
        return ""


def _unfit(file: File, error: Exception, *names: str) -> ValueError:
    held = _held(file)
    return ValueError(
        f"Expected records of tf.train.Example with a feature {', '.join(map(repr, names))}, as `features` says. "
        f"Received: {file.path}: {told(error)}{f' Its first record holds {held}.' if held else ''}"
    )


def _try(files: list[File], made: Callable[[Any], Any], names: Iterable[str]) -> None:
    """Read the first record as all will be read; raise ValueError if that can't be done."""
    import tensorflow as tf

    try:
        made(next(iter(_records(files))))
    except (tf.errors.OpError, ValueError) as error:
        raise _unfit(files[0], error, *names) from error


def _wanted_features(place: str) -> str:
    held = _held(next(iter(_files(place).values()))[0])
    return f"a .json file that says what the TFRecords hold; the first record of {place} has {held or '?'}"


def _scanned(files: list[File], target: Feature, parser: Any) -> Targets:
    """Go through records once, and look at the targets alone."""
    import tensorflow as tf

    found = Targets()
    for file in files:
        _check_whole(file)
        parsed = _records([file]).map(
            lambda record: tf.io.parse_single_example(record, {target.name: parser})[target.name]
        )
        try:
            for batch in parsed.map(target.decoded).batch(1024):
                found.see(batch.numpy())
        except tf.errors.OpError as error:
            raise _unfit(file, error, target.name) from error
    if not found.samples:
        raise ValueError(f"Expected at least one record. Received: none in {files[0].path}.")
    return found


def _as_input(features: Mapping[str, Feature], request: Request) -> Any:
    """Return a function from parsed features to what a model takes: an array, or one by name for each of its inputs."""
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
        return lambda parsed: wanted.decoded(parsed[feature.name])
    if request.rescale is not None or request.image_size is not None:
        raise ValueError(
            f"Expected no `rescale` and `image_size` without an image. Received: {', '.join(features)}. Leave them out."
        )
    if len(features) > 1:
        return lambda parsed: {name: feature.decoded(parsed[name]) for name, feature in features.items()}
    (feature,) = features.values()
    return lambda parsed: feature.decoded(parsed[feature.name])


def _files(place: str) -> dict[str, list[File]]:
    """Return the files by what they are for."""
    return {part: [File(path, _compression(path)) for path in paths] for part, paths in _paths(place).items()}


def _paths(place: str) -> dict[str, list[str]]:
    """Return paths by what they are for: as the folders that they are in, or their names, begin or end."""
    root = pathlib.Path(place)
    if not root.exists():
        raise FileNotFoundError(f"Expected TFRecords. Received: no file at {root}.")
    if not root.is_dir():
        return {"train": [str(root)]}
    found: dict[str, list[str]] = {}
    for path in sorted(path for path in root.rglob("[!.]*") if SUFFIX in path.name and path.is_file()):
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
    {"features": _wanted_features},
)
