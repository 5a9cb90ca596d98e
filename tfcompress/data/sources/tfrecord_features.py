"""What a record of a TFRecord holds, as a `.json` file says it.

The file holds an object for each feature, by name: `dtype` ("float32", "int64", "string") and `shape`; or `encoding`,
"image" (JPEG, PNG, GIF, BMP; `shape` is (height, width, channels)) or "raw" (the bytes of a tensor of `dtype` and
`shape`). That of the target may have `names`, of the classes in their order.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tfcompress.core.arguments import short

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


def read_features(path: str) -> dict[str, Feature]:
    """Return what a `.json` file says that records hold.

    Raises:
        FileNotFoundError: If it isn't there.
        ValueError: If it says something else.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(
            f"Expected a .json file that says what the TFRecords hold. Received: no file at {path}."
        )
    form = '{"x": {"dtype": "float32", "shape": [4]}, "label": {"dtype": "int64"}}'
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


def found_in(record: bytes) -> str:
    """Return what a record holds, as a `features` file would say it.

    >>> import tensorflow as tf
    >>> value = tf.train.Feature(float_list=tf.train.FloatList(value=[1, 2]))
    >>> found_in(tf.train.Example(features=tf.train.Features(feature={"x": value})).SerializeToString())
    '{"x": {"dtype": "float32", "shape": [2]}}'
    """
    import tensorflow as tf

    found = {}
    for name, feature in sorted(tf.train.Example.FromString(record).features.feature.items()):
        kind = feature.WhichOneof("kind")
        dtype = {"float_list": "float32", "int64_list": "int64", "bytes_list": "string"}.get(kind or "", "nothing")
        count = len(getattr(feature, kind).value) if kind else 0
        found[name] = {"dtype": dtype, **({} if count == 1 else {"shape": [count]})}
    return json.dumps(found)
