"""A data set that TensorFlow Datasets has prepared in a folder of this machine; nothing is downloaded."""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any

from tfcompress.data.dataset import Dataset
from tfcompress.data.sources.model_input import image_input
from tfcompress.data.sources.samples import stream
from tfcompress.data.sources.source import TEST_SHARE, Request, Source

PREFIX = "tfds:"
FOLDER = "~/tensorflow_datasets"
"""Where that package prepares data by default."""


def _open(place: str, request: Request) -> Dataset:
    name = place[len(PREFIX) :]
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"Expected the package tensorflow-datasets, to read {place}. Received: {error}. Install it: pip install "
            "'tfcompress[data]'."
        ) from error
    builder = tfds.builder_from_directory(_prepared(name, request.data_dir or os.environ.get("TFDS_DATA_DIR", FOLDER)))
    sizes = {key: one.num_examples for key, one in builder.info.splits.items()}
    keys = _keys(name, builder.info, tfds.features.ClassLabel)
    image, label = (builder.info.features[key] for key in keys)
    made = _made(image, request)

    def part(split: str, samples: int) -> Any:
        def records() -> Any:
            found = builder.as_dataset(split=split, shuffle_files=False)
            return found.map(lambda example: (example[keys[0]], example[keys[1]]))

        return stream(records, samples, made, each=_bytes(image))

    train, test, validation = _parts(name, sizes)
    if test is None:
        samples = round((1 - TEST_SHARE) * sizes[train])
        splits = part(f"{train}[:{samples}]", samples), part(f"{train}[{samples}:]", sizes[train] - samples)
    else:
        splits = part(train, sizes[train]), part(test, sizes[test])
    checked = None if validation is None else part(validation, sizes[validation])
    classes = label.num_classes if isinstance(label, tfds.features.ClassLabel) else None
    names = tuple(label.names) if classes else None
    return Dataset(re.split("[/:]", name)[0], *splits, checked, classes, names)


def _keys(name: str, info: Any, label: type) -> tuple[str, str]:
    """Return the names of input and target: those that the data set says, or the class and what is beside it."""
    keys = info.supervised_keys
    if keys is None and len(info.features) == 2:
        keys = sorted(info.features, key=lambda key: isinstance(info.features[key], label))
    found = [key for key in keys or () if isinstance(key, str)]
    if len(found) != 2:
        raise ValueError(
            f"Expected a data set of inputs and targets. Received: {name}, with {', '.join(info.features)}, which "
            "doesn't say what is which. Give a function that makes the data: package.module:function."
        )
    return found[0], found[1]


def _prepared(name: str, data_dir: str) -> str:
    """Return the folder of the newest version of a data set that is there."""
    root = pathlib.Path(data_dir).expanduser()
    dataset, _, version = name.partition(":")
    found = sorted(path.parent for path in root.joinpath(*dataset.split("/")).glob("**/dataset_info.json"))
    found = [path for path in found if version in ("", path.name)]
    if not found:
        there = sorted({str(path.parent.parent.relative_to(root)) for path in root.glob("*/**/dataset_info.json")})
        raise FileNotFoundError(
            f"Expected the data set {name!r}, prepared in a folder. Received: {root}, which has "
            f"{', '.join(there) or 'none'}. Name the folder that it is in as `data_dir`, or prepare it there: "
            f"tensorflow_datasets.load({dataset!r}, data_dir={str(root)!r})."
        )
    if len({path.parent for path in found}) > 1:
        configs = ", ".join(f"{PREFIX}{path.parent.relative_to(root)}" for path in found)
        raise ValueError(f"Expected one configuration of {name!r}. Received: {configs}. Name one of them.")
    return str(max(found, key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)]))


def _parts(name: str, sizes: dict[str, int]) -> tuple[str, str | None, str | None]:
    """Return the names of the splits to train with, to test on and to validate with."""
    if "train" not in sizes:
        raise ValueError(f"Expected a split 'train' in {name}. Received: {', '.join(sizes) or 'none'}.")
    others = [split for split in ("test", "validation") if split in sizes]
    return "train", others[0] if others else None, others[1] if len(others) > 1 else None


def _made(feature: Any, request: Request) -> Any:
    """Return a function from (input, target) to what the model takes; `None`: it takes them as they are."""
    import tensorflow as tf

    if len(feature.shape or ()) != 3 or feature.dtype != "uint8":
        if request.rescale is not None or request.image_size is not None:
            raise ValueError(
                f"Expected no `rescale` and `image_size` without images. Received: inputs {feature}. Leave them out."
            )
        return None
    wanted = image_input(request, (1, 3, 4), feature.shape)
    if feature.shape[-1] not in (None, wanted.channels):
        raise ValueError(
            f"Expected images of {wanted.channels} channels, as the model takes. Received: {feature.shape[-1]}."
        )

    def made(image: Any, target: Any) -> Any:
        resized = tf.image.resize(image, wanted.size)
        return wanted.pixels(tf.ensure_shape(resized, (*wanted.size, wanted.channels))), target

    return made


def _bytes(feature: Any) -> int:
    """Return how much memory a sample takes, about: of images of any size that of a middle one."""
    total = 1
    for size in feature.shape or ():
        total *= size or 512
    return total


SOURCE = Source(
    "tfds:NAME, a prepared data set of TensorFlow Datasets",
    lambda place: place.startswith(PREFIX),
    _open,
    frozenset({"data_dir", "rescale", "image_size"}),
)
