"""Memory of calibration: MobileNetV2 at 96 pixels, batches of 16 from a generator, more and more of them."""

from __future__ import annotations

import json
import pathlib
import resource
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.apart import in_a_process
from benchmarks.results import save, show

BATCHES = (10, 50, 200)
RANGES = ("minmax", "ema", "percentile", "mse", "entropy")
SIZE = (16, 96, 96, 3)


def run(folder: pathlib.Path, cache: pathlib.Path, rounds: int, command: str) -> None:
    """Measure, each in a process of its own; print and save."""
    del folder, cache, rounds
    rows = []
    for name in RANGES:
        row: dict[str, Any] = {"range": name}
        for count in BATCHES:
            before, most = in_a_process("quantization_memory", name, str(count))
            row[f"{count} batches, MB"] = round(most - before)
        rows.append(row)
    show("Memory that calibration adds, at most", rows)
    save("quantization_memory", rows, command)


def megabytes() -> float:
    """The most that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, count: int) -> None:
    """Print the megabytes before and after calibration."""
    import keras
    import numpy as np

    import tfcompress as tfc

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(SIZE[1:], weights=None)
    quantized = tfc.quantize(model, tfc.QuantizeConfig(activations=tfc.ActivationSpec(range=name)))

    def batches() -> Iterator[Any]:
        generator = np.random.default_rng(0)
        for _ in range(count):
            yield generator.standard_normal(SIZE, np.float32)

    before = megabytes()
    tfc.calibrate(quantized, batches())
    print(json.dumps([before, megabytes()]))


if __name__ == "__main__":
    measure(sys.argv[1], int(sys.argv[2]))
