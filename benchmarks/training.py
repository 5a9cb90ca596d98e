"""python -m benchmarks.training

Time per training step of a plain Keras model, of the same model pruned by tfcompress (masks computed every 100 steps,
and at every step), and of tfmot's pruned tf_keras model beside the plain tf_keras one; all interleaved in one process,
with TensorFlow's own choice of threads, XLA off and on. Ratios are taken round by round. Writes
benchmarks/results/training.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tfcompress as tfc
from benchmarks.results import save, show

ROUNDS = flags.DEFINE_integer("rounds", 9, "Rounds of 100 steps of each model.", lower_bound=3)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Samples per step.", lower_bound=1)
THREADS = flags.DEFINE_integer("threads", 0, "TensorFlow's threads; 0: its own choice, and the figures are kept.")

STEPS = 100  # one computation of the masks at frequency 100


def network(module: Any) -> Any:
    """Return the 28x28x1 convolutional network, 225,034 parameters, of Keras 3 or of tf_keras."""
    layers = module.layers
    return module.Sequential(
        [
            layers.InputLayer((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )


def stepper(module: Any, model: Any, jit: bool, callbacks: Any = ()) -> Callable[[], None]:
    """Return a function that does one training step of `model` on a fixed batch."""
    loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(module.optimizers.Adam(1e-3), loss, jit_compile=jit)
    generator = np.random.default_rng(0)
    x = tf.constant(generator.normal(size=(BATCH_SIZE.value, 28, 28, 1)).astype("float32"))
    y = tf.constant(generator.integers(0, 10, BATCH_SIZE.value))
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


def variants(jit: bool) -> dict[str, Callable[[], None]]:
    """Return one step function for each model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_model_optimization as tfmot
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    import tf_keras

    sparsity = tfmot.sparsity.keras
    built: dict[str, Callable[[], None]] = {"plain": stepper(keras, network(keras), jit)}
    for frequency in (100, 1):
        model = tfc.prune(network(keras), tfc.ConstantSparsity(0.8, frequency=frequency))
        built[f"tfcompress, frequency {frequency}"] = stepper(keras, model, jit)
    built["tf_keras plain"] = stepper(tf_keras, network(tf_keras), jit)
    for frequency in (100, 1):
        schedule = sparsity.ConstantSparsity(0.8, 0, frequency=frequency)
        model = sparsity.prune_low_magnitude(network(tf_keras), pruning_schedule=schedule)
        built[f"tfmot, frequency {frequency}"] = stepper(tf_keras, model, jit, [sparsity.UpdatePruningStep()])
    return built


def measure(jit: bool) -> list[dict[str, Any]]:
    """Return a row per model: median milliseconds per step, and the ratio to its plain model."""
    built = variants(jit)
    for step in built.values():
        for _ in range(3):
            step()
    times: dict[str, list[float]] = {name: [] for name in built}
    for done in range(ROUNDS.value):
        for name, step in built.items():
            begun = time.perf_counter()
            for _ in range(STEPS):
                step()
            times[name].append((time.perf_counter() - begun) / STEPS * 1e3)
        print(f"XLA {'on' if jit else 'off'}: round {done + 1} of {ROUNDS.value}", file=sys.stderr)
    rows = []
    for name, values in times.items():
        plain = times["tf_keras plain" if name.startswith("tf") and not name.startswith("tfc") else "plain"]
        ratios = [value / base for value, base in zip(values, plain, strict=True)]
        rows.append(
            {
                "XLA": "on" if jit else "off",
                "model": name,
                "ms per step": round(statistics.median(values), 2),
                "ratio to plain": round(statistics.median(ratios), 3),
                "least": round(min(ratios), 3),
                "most": round(max(ratios), 3),
            }
        )
    return rows


def main(_: list[str]) -> None:
    """Measure, print and save."""
    if THREADS.value:
        tf.config.threading.set_intra_op_parallelism_threads(THREADS.value)
        tf.config.threading.set_inter_op_parallelism_threads(THREADS.value)
    rows = measure(False) + measure(True)
    show(f"Time per training step, batch {BATCH_SIZE.value}", rows)
    if not THREADS.value:
        save("training", rows, command="python -m benchmarks.training")


if __name__ == "__main__":
    app.run(main)
