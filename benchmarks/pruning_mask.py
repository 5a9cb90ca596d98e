"""Time and memory of one computation of all masks of a network with 25 million weights, with one common budget."""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
import time
from typing import Any

from benchmarks.apart import in_a_process
from benchmarks.memory import AT_ONCE, Memory
from benchmarks.results import save, show

WIDTHS = (2500, 2500, 2500, 2500, 2500)
PROCESSES = 5
GRANULARITIES = ("element", "block 16 x 1", "2 of 4", "channel")


def run(folder: pathlib.Path, cache: pathlib.Path, rounds: int, command: str) -> None:
    """Measure, each in a process of its own; print and save."""
    del folder, cache, rounds
    rows = []
    for name in GRANULARITIES:
        found = [in_a_process("pruning_mask", name) for _ in range(PROCESSES)]
        exact = in_a_process("pruning_mask", name, environment=AT_ONCE)
        seconds = [second for one in found for second in one["seconds"]]
        first = [one["first"] for one in found]
        rows.append(
            {
                "granularity": name,
                "scope": exact["scope"],
                "weights": f"{exact['weights']:,}",
                "weights' MB": round(exact["weights"] * 4 / 2**20),
                "s": f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})",
                "more MB": round(exact["later"]),
                "pool grows by MB": f"{statistics.median(first):.0f} ({min(first):.0f} to {max(first):.0f})",
            }
        )
    show("One computation of all masks", rows)
    save("pruning_mask", rows, command)


def measure(name: str) -> dict[str, Any]:
    """Return the row of one granularity."""
    import keras
    import tensorflow as tf

    import tfcompress as tfc
    from tfcompress.core.wrapper import wrapped_layers

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
    with Memory() as first:
        update()
    seconds = []
    with Memory() as later:
        for _ in range(9):
            begun = time.perf_counter()
            update()
            seconds.append(time.perf_counter() - begun)
    return {"scope": scope, "weights": weights, "seconds": seconds, "first": first.more, "later": later.more}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
