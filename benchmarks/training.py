"""python -m benchmarks.training

Time per training step of a plain Keras model, of the same model pruned by tfcompress (masks computed every 100 steps,
and at every step), and of tfmot's pruned tf_keras model beside the plain tf_keras one; all in turns in one process,
with TensorFlow's own choice of threads, XLA off and on. Writes benchmarks/results/training.json.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from absl import app, flags

import tfcompress as tfc
from benchmarks.harness import compared, each_step, save, show, stepper
from benchmarks.networks import small

PERIOD = 100
"""One computation of the masks at the lower frequency."""

ROUNDS = flags.DEFINE_integer("rounds", 9, f"Rounds of {PERIOD} steps of each model.", lower_bound=3)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Samples per step.", lower_bound=1)
THREADS = flags.DEFINE_integer("threads", 0, "TensorFlow's threads; 0: its own choice, and the figures are kept.")


def variants(jit: bool) -> dict[str, Callable[[], None]]:
    """Return one step function for each model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_model_optimization as tfmot
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    import tf_keras

    sparsity = tfmot.sparsity.keras

    def of(module: Any, model: Any, callbacks: Sequence[Any] = ()) -> Callable[[], None]:
        return stepper(module, model, jit, (28, 28, 1), BATCH_SIZE.value, callbacks=callbacks)

    built = {"plain": of(keras, small(keras))}
    for frequency in (PERIOD, 1):
        model = tfc.prune(small(keras), tfc.ConstantSparsity(0.8, frequency=frequency))
        built[f"tfcompress, frequency {frequency}"] = of(keras, model)
    built["tf_keras plain"] = of(tf_keras, small(tf_keras))
    for frequency in (PERIOD, 1):
        schedule = sparsity.ConstantSparsity(0.8, 0, frequency=frequency)
        model = sparsity.prune_low_magnitude(small(tf_keras), pruning_schedule=schedule)
        built[f"tfmot, frequency {frequency}"] = of(tf_keras, model, [sparsity.UpdatePruningStep()])
    return built


def measure(jit: bool) -> list[dict[str, Any]]:
    """Return a row per model, beside its plain one."""
    taken = each_step(variants(jit), ROUNDS.value, PERIOD)
    rows = compared(taken, lambda name: "tf_keras plain" if name.startswith(("tf_keras", "tfmot")) else "plain")
    return [{"XLA": "on" if jit else "off", **row} for row in rows]


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
