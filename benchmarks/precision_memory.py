"""Memory that training steps take on the CPU in each precision; each in a process of its own."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

from benchmarks.apart import in_a_process
from benchmarks.memory import AT_ONCE, Memory
from benchmarks.precision_step import POLICIES, WAYS, compressed
from benchmarks.results import save, show

SIZE = 32
STEPS = 3


def run(part: str, folder: pathlib.Path, rounds: int, command: str) -> None:
    """Measure, print and save."""
    del part, folder, rounds
    rows: list[dict[str, Any]] = []
    for policy in POLICIES:
        row: dict[str, Any] = {"policy": policy}
        for way in WAYS:
            row[f"{way}, MB"] = round(in_a_process("precision_memory", policy, way, environment=AT_ONCE))
        rows.append(row)
    show(f"Memory of training steps, MobileNetV2 at 96 pixels, batch {SIZE}", rows)
    save("precision_memory", rows, command)


def measure(policy: str, way: str) -> float:
    """Return the MB that steps take beyond the model and its optimizer."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    model = compressed(keras.applications.MobileNetV2((96, 96, 3), weights=None, classes=10), policy, way)
    model.compile(keras.optimizers.SGD(), "sparse_categorical_crossentropy", jit_compile=False)
    generator = np.random.default_rng(0)
    x = generator.standard_normal((SIZE, 96, 96, 3), np.float32)
    y = generator.integers(0, 10, SIZE)
    model.train_on_batch(x, y)  # traces
    with Memory() as memory:
        for _ in range(STEPS):
            model.train_on_batch(x, y)
    return memory.more


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2])))
