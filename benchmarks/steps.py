"""Time of training steps, of several models in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Steps = dict[str, Callable[[], None]]
Times = dict[str, list[tuple[float, float]]]

TURN = 10
"""Steps of one model before it is the next one's turn, where single steps are timed."""


def stepper(
    module: Any, model: Any, jit: bool, shape: tuple[int, ...], size: int, *, callbacks: Any = ()
) -> Callable[[], None]:
    """Return a function that does one training step of `model` on a fixed batch."""
    import tensorflow as tf

    loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(module.optimizers.Adam(1e-3), loss, jit_compile=jit)
    generator = np.random.default_rng(0)
    x = tf.constant(generator.normal(size=(size, *shape)).astype("float32"))
    y = tf.constant(generator.integers(0, 10, size))
    batches = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    function = model.make_train_function() or model.train_function
    for callback in callbacks:
        callback.set_model(model)
        callback.on_train_begin()

    def step() -> None:
        for callback in callbacks:
            callback.on_train_batch_begin(0)
        function(batches)

    return step


def each_step(built: Steps, rounds: int, period: int) -> dict[str, np.ndarray]:
    """Return the milliseconds of every single step, on the clock and of all processors: `(rounds, period, 2)`.

    What else a machine does in a second or two falls on all models alike where these take turns of a few steps.

    Args:
        built: One step function for each model, by its name; each is called three times before.
        rounds: In each, each model does `period` steps, in turns of `TURN`; every other time backwards.
        period: After so many steps a model does the same again, such as computing masks.
    """
    for step in built.values():
        for _ in range(3):
            step()
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in built}
    for turn in range(rounds * period // TURN):
        order = list(built.items())
        for way, step in order if turn % 2 == 0 else reversed(order):
            for _ in range(TURN):
                begun, used = time.perf_counter(), time.process_time()
                step()
                taken[way].append(((time.perf_counter() - begun) * 1e3, (time.process_time() - used) * 1e3))
    return {way: np.array(times).reshape(rounds, period, 2) for way, times in taken.items()}


def compared_by_step(taken: dict[str, np.ndarray], base: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return a row per model: the mean over a period of each step's median over the rounds, and ratios to a base.

    A step that was held up by something else in one round counts as little as it should; one that takes longer in
    every round, because masks are computed in it, counts as one of the period.

    Args:
        taken: What `each_step` returns.
        base: `base(name)` is the name of the model to compare with.
    """
    means = {way: np.median(times, axis=0).mean(axis=0) for way, times in taken.items()}
    rows = []
    for way, times in taken.items():
        ratio = means[way] / means[base(way)]
        by_round = np.median(times[..., 0], axis=1) / np.median(taken[base(way)][..., 0], axis=1)
        rows.append(
            {
                "model": way,
                "ms per step": f"{means[way][0]:.2f}",
                "longest": f"{np.median(times[..., 0], axis=0).max():.2f}",
                "ratio to plain": f"{ratio[0]:.3f}",
                "middle half": "{:.3f} to {:.3f}".format(*np.percentile(by_round, [25, 75])),
                "processor ratio": f"{ratio[1]:.3f}",
            }
        )
    return rows


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
