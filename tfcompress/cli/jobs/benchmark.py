"""The time that models take."""

from __future__ import annotations

import pathlib

from absl.flags import FlagValues

from tfcompress.cli.training_progress import stage


def benchmark(values: FlagValues) -> None:
    """Time models on random inputs."""
    import tfcompress as tfc

    for path in values.models:
        with stage(f"time {pathlib.Path(path).name}"):
            timing = tfc.benchmark(path, threads=values.threads)
        print(f"{pathlib.Path(path).name}: {timing}")
