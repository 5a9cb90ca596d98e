"""Flags of the devices and machines that a model is trained on."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag
from tfcompress.core.limits import MOST_DEVICES

KINDS = ("none", "mirrored", "data_parallel", "model_parallel", "multi_worker_mirrored")
_PROCESSES = 10_000

TITLE = "Several devices and machines"

FLAGS = {
    "distribution": Flag(
        "What it is trained on: one device; all of this machine (mirrored; with KERAS_BACKEND=jax: data_parallel, or "
        "model_parallel, which divides the weights too), or those of several machines (see --num_processes). "
        "multi_worker_mirrored is refused: Keras 3 can't train so.",
        "none",
        "choice",
        choices=KINDS,
    ),
    "devices": Flag(
        "With --distribution: devices of each machine; by default all its GPUs or TPUs, or one CPU. Where there are "
        "none of these, as many virtual CPUs are made.",
        None,
        "integer",
        "N",
        1,
        MOST_DEVICES,
    ),
    "model_devices": Flag(
        "With --distribution=model_parallel: devices that share one copy of the model; by default all.",
        None,
        "integer",
        "N",
        1,
        _PROCESSES * MOST_DEVICES,
    ),
    "job_addresses": Flag(
        "With several processes: HOST:PORT of process 0, as of keras.distribution.initialize.", shown="HOST:PORT"
    ),
    "num_processes": Flag(
        "Processes, usually one for each machine, that train one model.", None, "integer", "N", 1, _PROCESSES
    ),
    "process_id": Flag(
        "The number of this process, from 0; process 0 alone writes files.", None, "integer", "N", 0, _PROCESSES - 1
    ),
}
