"""Time of training steps, of several models in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Steps = dict[str, Callable[[], None]]
Times = dict[str, list[tuple[float, float]]]


def stepper(module: Any, model: Any, jit: bool, shape: tuple[int, ...], size: int) -> Callable[[], None]:
    """Return a function that does one training step of `model` on a fixed batch."""
    import tensorflow as tf

    loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(module.optimizers.Adam(1e-3), loss, jit_compile=jit)
    generator = np.random.default_rng(0)
    x = tf.constant(generator.normal(size=(size, *shape)).astype("float32"))
    y = tf.constant(generator.integers(0, 10, size))
    batches = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    function = model.make_train_function() or model.train_function
    return lambda: function(batches)


def timed(built: Steps, rounds: int, steps: int, base: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return a row per model, as `compared` makes it of `turns`."""
    return compared(turns(built, rounds, steps), base)


def turns(built: Steps, rounds: int, steps: int) -> Times:
    """Return, for each model, the milliseconds per step of every turn, on the clock and of all processors.

    Args:
        built: One step function for each model, by its name.
        rounds: In each, each model has its turn; every other round goes backwards.
        steps: In a turn, after one that isn't counted.
    """
    taken: Times = {way: [] for way in built}
    for turn in range(rounds):
        order = list(built.items())
        for way, step in order if turn % 2 == 0 else reversed(order):
            step()
            begun, used = time.perf_counter(), time.process_time()
            for _ in range(steps):
                step()
            clock, processors = time.perf_counter() - begun, time.process_time() - used
            taken[way].append((clock / steps * 1e3, processors / steps * 1e3))
    return taken


def compared(taken: Times, base: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return a row per model: medians, and ratios to a base, turn by turn.

    Args:
        taken: What `turns` returns.
        base: `base(name)` is the name of the model to compare with.
    """
    rows = []
    for way, times in taken.items():
        ratios = np.array(times) / np.array(taken[base(way)])
        rows.append(
            {
                "model": way,
                "ms per step": f"{statistics.median(clock for clock, _ in times):.2f}",
                "processor ms": f"{statistics.median(used for _, used in times):.2f}",
                "ratio to plain": f"{np.median(ratios[:, 0]):.3f}",
                "middle half": "{:.3f} to {:.3f}".format(*np.percentile(ratios[:, 0], [25, 75])),
                "processor ratio": f"{np.median(ratios[:, 1]):.3f}",
            }
        )
    return rows
