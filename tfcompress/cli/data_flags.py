"""The data of a job, from flags."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.flags import dataset_flags
from tfcompress.cli.flags.dataset_flags import numbers
from tfcompress.cli.wrong_use import UsageError, refuse_without_effect

if TYPE_CHECKING:
    from tfcompress.data.dataset import Dataset

DATA = tuple(dataset_flags.FLAGS)
"""The flags of jobs that look at data."""


def prepare(values: FlagValues) -> None:
    """See that there is data where `--data` says, and let everything random from here on follow `--seed`.

    Raises:
        FileNotFoundError: If nothing is there.
        UsageError: If a flag has no effect on such data.
        ValueError: If what is there is of no kind that is known.
    """
    import keras

    from tfcompress.data.sources.source import OPTIONS
    from tfcompress.data.sources.table import source_of

    keras.utils.set_random_seed(_seed(values))
    if not values.data:
        refuse_without_effect(values, "without --data", *OPTIONS)
        return
    source = source_of(values.data)
    refuse_without_effect(values, f"with {source.form}", *(name for name in OPTIONS if name not in source.options))
    if "label" in source.options and not values.label:
        raise UsageError(f"Expected --label with {source.form}: what is to be predicted. Received: none.")


def data_of(values: FlagValues, model: Any = None) -> Dataset:
    """Return the data of `--data`, or scikit-learn's digits.

    Args:
        values: The flags, which `prepare` has seen.
        model: The Keras model that the data is for, or the path of one or of a file; `None`: it is made for the data.
    """
    from tfcompress.data.sources.digits import digits
    from tfcompress.data.sources.model_input import inputs_of
    from tfcompress.data.sources.source import Request
    from tfcompress.data.sources.table import open_dataset

    if not values.data:
        return digits()
    inputs = None
    if model is not None:
        inputs = _inputs_of_file(model) if isinstance(model, str | os.PathLike) else inputs_of(model)
    rescale = numbers(values.rescale) if values.rescale else None
    size = [int(number) for number in numbers(values.image_size)] if values.image_size else None
    return open_dataset(
        values.data,
        Request(
            inputs,
            seed=_seed(values),
            label=values.label,
            features=values.features,
            data_dir=values.data_dir,
            rescale=None if rescale is None else (rescale[0], rescale[1] if len(rescale) > 1 else 0.0),
            image_size=None if size is None else (size[0], size[-1]),
        ),
    )


def _seed(values: FlagValues) -> int:
    return int(values["seed"].value) if "seed" in values else 0


def _inputs_of_file(path: str | os.PathLike[str]) -> Any:
    """Return what a file takes: where it takes integers, they are made of float32."""
    from tfcompress.data.named_inputs import TensorInfo
    from tfcompress.evaluation.open_predictor import open_predictor

    specs = open_predictor(path).input_specs
    return None if specs is None else {name: TensorInfo(info.shape, "float32") for name, info in specs.items()}
