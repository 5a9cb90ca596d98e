"""A data set that TensorFlow Datasets has prepared in a folder of this machine; nothing is downloaded."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

from tfcompress.data.dataset import Dataset
from tfcompress.data.sources.division import said
from tfcompress.data.sources.model_input import image_input
from tfcompress.data.sources.samples import divided, stream
from tfcompress.data.sources.source import Request, Source
from tfcompress.data.sources.targets import Classes, Targets, classes_of

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
    encoded = isinstance(image, tfds.features.Image) and image.np_dtype == "uint8"
    as_input = _as_input(image, request, encoded)
    late = {keys[0]: tfds.decode.SkipDecoding()} if encoded else None  # not those of another part
    train, test, validation = _parts(name, sizes)
    names = tuple(label.names) if isinstance(label, tfds.features.ClassLabel) else None
    read = [split for split in (train, test, validation) if split is not None]
    if names is None or test is None:
        only = tfds.decode.PartialDecoding({keys[1]: True})
        seen = {split: _targets(builder.as_dataset(split=split, decoders=only), keys[1]) for split in read}
        classes = classes_of(list(seen.values()), names, f"{keys[1]!r}")
    else:
        seen, classes = {}, Classes(len(names), names)

    def records(split: str) -> Any:
        found = builder.as_dataset(split=split, shuffle_files=False, decoders=late)
        return found.map(lambda example: (example[keys[0]], example[keys[1]]))

    def how(split: str) -> dict[str, Any]:
        change = seen[split].as_class(classes.names) if split in seen else None
        return {"made": _joined(as_input, change), "each": _bytes(image)}

    def part(split: str) -> Any:
        return stream(lambda: records(split), sizes[split], **how(split))

    drawn = None
    if test is None:
        splits = divided(lambda: records(train), seen[train], seed=request.seed, **how(train))
        drawn = said(request.seed, by_class=classes.number is not None)
    else:
        splits = part(train), part(test)
    checked = None if validation is None else part(validation)
    title = re.split("[/:]", name)[0]
    return Dataset(title, *splits, checked, classes.number, classes.names, classes.smallest, drawn)


def _targets(examples: Any, key: str) -> Targets:
    found = Targets()
    for batch in examples.map(lambda example: example[key]).batch(1024):
        found.see(batch.numpy())
    return found


def _joined(
    as_input: Callable[[Any], Any] | None, as_class: Callable[[Any], Any] | None
) -> Callable[[Any, Any], Any] | None:
    """Return a function that does one to an input and the other to its target; `None` if there is nothing to do."""
    if as_input is None and as_class is None:
        return None
    return lambda x, y: (as_input(x) if as_input else x, as_class(y) if as_class else y)


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


def _as_input(feature: Any, request: Request, encoded: bool) -> Any:
    """Return a function from an input, maybe the bytes of an image, to what the model takes; `None`: it takes it so."""
    if len(feature.shape or ()) != 3 or feature.np_dtype != "uint8":
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
    return wanted.decoded if encoded else wanted.made


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
