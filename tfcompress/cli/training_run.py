"""Training as the flags of several jobs say."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

from absl.flags import FlagValues

from tfcompress.cli.data_flags import data_of, prepare
from tfcompress.cli.output_paths import check_size, new_file

if TYPE_CHECKING:
    import keras

    from tfcompress.data.dataset import Dataset
    from tfcompress.pipeline.checkpoints import Resume
    from tfcompress.pipeline.distribution import Devices


class FineTuning(NamedTuple):
    """A model to be trained on data, and where it is saved; `overwrite`: a file there is replaced."""

    output: pathlib.Path
    overwrite: bool
    devices: Devices
    model: keras.Model
    data: Dataset


def fine_tuning(values: FlagValues, resume: Resume) -> FineTuning:
    """Read the flags, the model and the data; refuse what doesn't fit before any work."""
    import tfcompress as tfc
    from tfcompress.cli.device_flags import devices_of, writes_files
    from tfcompress.pipeline import check_fits

    overwrite = values.overwrite or resume.begun  # what is there may be of this very job
    output = new_file(values.output, ".keras", overwrite, here=writes_files(values))
    prepare(values)
    devices = devices_of(values)
    model = tfc.load(values.model, unsafe=values.unsafe)
    data = data_of(values, model)
    check_fits(model, data)
    if writes_files(values):
        check_size(model, output)
    return FineTuning(output, overwrite, devices, model, data)


def train_in_place(
    text: str, model: Any, data: Any, *, loss: Any, epochs: int, values: FlagValues, devices: Any, resume: Resume
) -> None:
    """Train in place, with a progress bar and the flags that all training has."""
    from tfcompress.cli.training_progress import stage_of
    from tfcompress.pipeline import fit

    with stage_of(values)(text, epochs) as callbacks:
        fit(
            model,
            data,
            loss,
            epochs=epochs,
            batch_size=values.batch_size,
            learning_rate=values.learning_rate,
            callbacks=callbacks,
            devices=devices,
            backup=resume.backup("training"),
        )
