"""The data of a job, from flags."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.flags import dataset_flags
from tfcompress.cli.flags.dataset_flags import numbers
from tfcompress.cli.wrong_use import UsageError, refuse_without_effect

if TYPE_CHECKING:
    from tfcompress.data.dataset import Dataset

DATA = (*dataset_flags.FLAGS, "seed")
"""The flags of jobs that look at data, which the seed divides where it isn't divided."""


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

    keras.utils.set_random_seed(values.seed)
    if not values.data:
        refuse_without_effect(values, "without --data", *OPTIONS)
        return
    source = source_of(values.data)
    refuse_without_effect(values, f"with {source.form}", *(name for name in OPTIONS if name not in source.options))
    for name, said in source.needs.items():
        if not values[name].value:
            raise UsageError(f"Expected --{name} with {source.form}. Received: none. It names {said(values.data)}.")


def data_of(values: FlagValues, model: Any = None) -> Dataset:
    """Return the data of `--data`, and say how it is divided; without that scikit-learn's digits, and say so.

    Args:
        values: The flags, which `prepare` has seen.
        model: The Keras model that the data is for, or the paths of one or of files; `None`: it is made for the data.

    Raises:
        UsageError: If there is no `--data`, and nothing says that the model was trained on the digits.
    """
    from tfcompress.data.sources.model_input import inputs_of
    from tfcompress.data.sources.source import Request
    from tfcompress.data.sources.table import open_dataset

    if not values.data:
        return _digits(model)
    inputs: Any = None
    outputs: list[Any] = []
    if isinstance(model, list):
        inputs, outputs = _specs_of_file(model[0])
    elif model is not None:
        inputs, outputs = inputs_of(model), list(model.outputs)
    rescale = numbers(values.rescale) if values.rescale else None
    size = [int(number) for number in numbers(values.image_size)] if values.image_size else None
    data = open_dataset(
        values.data,
        Request(
            inputs,
            seed=values.seed,
            label=values.label,
            features=values.features,
            data_dir=values.data_dir,
            rescale=None if rescale is None else (rescale[0], rescale[1] if len(rescale) > 1 else 0.0),
            image_size=None if size is None else (size[0], size[-1]),
            outputs=outputs[0].shape[-1] if len(outputs) == 1 and len(outputs[0].shape) > 1 else None,
        ),
    )
    print(f"{data.name}: {data.division()}.")
    return data


def digits_of(model: Any) -> Dataset | None:
    """Return scikit-learn's digits, if a Keras model is one that the command made for them; else `None`."""
    from tfcompress.data.sources.digits import DIGITS, digits
    from tfcompress.pipeline import check_fits

    if model.name != DIGITS:
        return None
    try:
        check_fits(model, data := digits())
    except ValueError:
        return None
    return _said(data)


def _digits(model: Any) -> Dataset:
    """Return scikit-learn's digits for a job without `--data`, and say so; the arguments are those of `data_of`."""
    from tfcompress.data.sources.digits import digits
    from tfcompress.loading import load
    from tfcompress.runtime.runner import FORMATS

    data: Dataset | None
    if model is None:
        data = _said(digits())
    elif isinstance(model, list):
        of_keras = (load(path) for path in model if pathlib.Path(path).suffix.lower() not in FORMATS)
        data = next(filter(None, map(digits_of, of_keras)), None)
    else:
        data = digits_of(model)
    if data is None:
        named = model[0] if isinstance(model, list) else repr(model.name)
        raise UsageError(
            f"Expected --data: what {named} is for. Received: none, and nothing says that it was trained on "
            "scikit-learn's digits, the data that jobs have of their own. Give such as --data=my.npz, or a folder of "
            "images by class (tfcompress evaluate --help says what else)."
        )
    return data


def _said(data: Dataset) -> Dataset:
    """Say what data is taken without `--data`, and return it."""
    print(f"The {data.name} of scikit-learn, as there is no --data: {data.division()}.")
    return data


def _specs_of_file(path: str | os.PathLike[str]) -> tuple[Any, list[Any]]:
    """Return what a file takes, and what it gives: where it takes integers, they are made of float32."""
    from tfcompress.data.named_inputs import TensorInfo
    from tfcompress.evaluation.open_predictor import FilePredictor, open_predictor

    opened: Any = open_predictor(path)
    file = isinstance(opened, FilePredictor)
    outputs = list(opened.runner.output_specs.values() if file else getattr(opened.model, "outputs", None) or ())
    specs = opened.input_specs
    if specs is None:
        return None, outputs
    return {name: TensorInfo(info.shape, "float32") for name, info in specs.items()}, outputs
