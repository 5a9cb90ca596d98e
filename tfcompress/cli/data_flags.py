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
    """Return the data of `--data`, and say how it is divided; without that scikit-learn's digits.

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
    inputs: Any = None
    outputs: list[Any] = []
    if isinstance(model, str | os.PathLike):
        inputs, outputs = _specs_of_file(model)
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
