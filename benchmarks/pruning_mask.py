"""Time and memory of one computation of all masks of a network with 25 million weights, with one common budget."""

from __future__ import annotations

import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.results import save, show

ROOT = pathlib.Path(__file__).resolve().parents[1]
WIDTHS = (2500, 2500, 2500, 2500, 2500)
GRANULARITIES = ("element", "block 16 x 1", "2 of 4", "channel")


def run(folder: pathlib.Path, cache: pathlib.Path, rounds: int, command: str) -> None:
    """Measure, each in a process of its own; print and save."""
    del folder, cache, rounds
    rows = []
    for name in GRANULARITIES:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.pruning_mask", name],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    show("One computation of all masks", rows)
    save("pruning_mask", rows, command)


def megabytes() -> float:
    """The most that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str) -> dict[str, Any]:
    """Return the row of one granularity."""
    import keras
    import tensorflow as tf

    import tfcompress as tfc
    from tfcompress.wrapper import wrapped_layers

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(width, use_bias=False) for width in WIDTHS[1:]]
    model = keras.Sequential([keras.Input((WIDTHS[0],)), *layers])
    granularity = {"block 16 x 1": tfc.Block(16, 1), "2 of 4": tfc.NofM(2, 4)}.get(name, name)
    scope = "layer" if name == "2 of 4" else "global"
    pruned = tfc.prune(model, tfc.PruneConfig(0.5, granularity=granularity, scope=scope))
    wrappers = wrapped_layers(pruned)
    weights = sum(layer.layer.kernel.shape[0] * layer.layer.kernel.shape[1] for layer in wrappers)

    @tf.function
    def update() -> None:
        done: set[Any] = set()
        for wrapper in wrappers:
            wrapper.step.assign(0)
            wrapper.update(wrappers, done)

    update.get_concrete_function()
    before = megabytes()
    seconds = []
    for _ in range(9):
        begun = time.perf_counter()
        update()
        seconds.append(time.perf_counter() - begun)
    return {
        "granularity": name,
        "scope": scope,
        "weights": f"{weights:,}",
        "s": f"{statistics.median(seconds):.2f}",
        "least to most": f"{min(seconds):.2f} to {max(seconds):.2f}",
        "more MB": round(megabytes() - before),
        "weights' MB": round(weights * 4 / 2**20),
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
