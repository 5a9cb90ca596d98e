"""Time of ResNet50's training step on a GPU in each precision, through Keras' JAX backend, all in turns."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.precision_step import POLICIES, WAYS, beside_float32, compressed
from benchmarks.results import save, show
from benchmarks.steps import compared, turns

BATCH_SIZE = 128
STEPS = 10
SIDE = 224


def run(part: str, folder: pathlib.Path, rounds: int, command: str) -> None:
    """Measure, print and save."""
    del part, folder
    if keras.backend.backend() != "jax":
        sys.exit("Expected KERAS_BACKEND=jax. Received: another backend.")
    import jax

    if jax.default_backend() != "gpu":
        sys.exit(f"Expected a GPU. Received: {jax.devices()}.")
    rows = measure(lambda: keras.applications.ResNet50(weights=None), SIDE, BATCH_SIZE, rounds, STEPS)
    device = jax.devices()[0].device_kind
    show(f"A training step of ResNet50, batch {BATCH_SIZE}, {device}", rows)
    save("precision_gpu", [{"device": device, **row} for row in rows], f"KERAS_BACKEND=jax {command}")


def measure(make: Callable[[], Any], side: int, size: int, rounds: int, steps: int) -> list[dict[str, Any]]:
    """Return a row for each precision and each way, of networks that `make` returns.

    Args:
        make: Returns a network for images of three channels, with probabilities of 1000 classes out.
        side: Of the images, in pixels.
        size: Samples in a batch.
        rounds: Of timing.
        steps: In a turn.
    """
    generator = np.random.default_rng(0)
    x = generator.standard_normal((size, side, side, 3), np.float32)
    y = generator.integers(0, 1000, size)
    built = {}
    for policy in POLICIES:
        for way in WAYS:
            keras.utils.set_random_seed(0)
            built[f"{policy} {way}"] = stepper(compressed(make(), policy, way), x, y)
    taken = turns(built, rounds, steps)
    plain = compared(taken, lambda key: f"{key.split()[0]} plain")
    return [
        {**row, "ratio to plain": beside["ratio to plain"]}
        for row, beside in zip(beside_float32(taken), plain, strict=True)
    ]


def stepper(model: Any, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    """Return a function that does one training step on a batch that is on the device, and waits for it."""
    import jax

    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    batch = jax.device_put((x, y))
    model.make_train_function()
    model.optimizer.build(model.trainable_variables)
    model._symbolic_build(data_batch=(x[:1], y[:1]))
    state = [
        [variable.value for variable in group]
        for group in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    ]

    def step() -> None:
        nonlocal state
        logs, new = model.train_function(tuple(state), iter([batch]))
        state = list(new)
        jax.block_until_ready((logs, state))

    return step
