"""What a model is trained on, from flags."""

from __future__ import annotations

import os

from absl.flags import FlagValues

from tfcompress.cli.wrong_use import UsageError
from tfcompress.pipeline.distribution import ONE, Devices, start

FLAGS = ("distribution", "devices", "model_devices", "job_addresses", "num_processes", "process_id")


def devices_of(values: FlagValues) -> Devices:
    """Set up the devices that the flags ask for, and say how many; to be called before anything is computed.

    From here on several processes wait for each other: what one of them may find missing is to be looked for before.

    Raises:
        UsageError: If the flags, the backend and the machine don't go together.
    """
    if values.dry_run and (values.num_processes or 1) > 1:
        return ONE  # the others aren't waited for
    kind, *rest = (values[name].value for name in FLAGS)
    if kind != "none" and values.model and not os.path.exists(values.model):
        raise FileNotFoundError(f"Expected a model. Received: {values.model}, which isn't there. Check --model.")
    try:
        devices = start(kind, **dict(zip(FLAGS[1:], rest, strict=True)))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if kind != "none" and devices.writes:
        print(f"Trained on {devices}.")
    return devices


def writes_files(values: FlagValues) -> bool:
    """Return whether this process is to write files, as flags and environment tell before the devices are set up."""
    number = values["process_id"].value if "process_id" in values else None
    if number is None:
        number = os.environ.get("KERAS_DISTRIBUTION_PROCESS_ID", "0")
    return str(number) == "0"
