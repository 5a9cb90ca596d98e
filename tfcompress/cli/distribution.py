"""What a model is trained on, from flags."""

from __future__ import annotations

from absl.flags import FlagValues

from tfcompress.cli.app import UsageError
from tfcompress.pipeline.distribution import Devices, start

FLAGS = ("distribution", "devices", "model_devices", "job_addresses", "num_processes", "process_id")


def devices_of(values: FlagValues) -> Devices:
    """Set up the devices that the flags ask for; to be called before anything is computed.

    Raises:
        UsageError: If the flags, the backend and the machine don't go together.
    """
    kind, *rest = (values[name].value for name in FLAGS)
    try:
        return start(kind, **dict(zip(FLAGS[1:], rest, strict=True)))
    except ValueError as error:
        raise UsageError(str(error)) from error
