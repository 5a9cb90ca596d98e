"""Time of a training step with quantization, beside the plain step, and tfmot's beside tf_keras' plain step."""

from __future__ import annotations

import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import peers
from benchmarks.quantization_networks import resnet8, small
from benchmarks.results import save, show

STEPS = {"small": 20, "ResNet-8": 4}
BATCH_SIZE = {"small": 128, "ResNet-8": 64}
SHAPES = {"small": (28, 28, 1), "ResNet-8": (32, 32, 3)}


def run(folder: pathlib.Path, cache: pathlib.Path, rounds: int, command: str) -> None:
    """Measure, print and save."""
    del folder, cache
    rows = [row for name in STEPS for jit in (False, True) for row in measure(name, jit, rounds)]
    show("A training step", rows)
    save("quantization_step", rows, command)


def variants(name: str, jit: bool) -> dict[str, Callable[[], None]]:
    """Return one step function for each model; what can't be compiled is left out, with a message."""
    tfmot = peers.tfmot()
    import tf_keras

    def network(module: Any) -> Any:
        return small(module) if name == "small" else resnet8(module, rescaling=False)

    models: dict[str, tuple[Any, Callable[[], Any]]] = {
        "plain": (keras, lambda: network(keras)),
        "tfcompress int8": (keras, lambda: tfc.quantize(network(keras), "int8")),
        "tf_keras plain": (tf_keras, lambda: network(tf_keras)),
        "tfmot int8": (tf_keras, lambda: tfmot.quantization.keras.quantize_model(network(tf_keras))),
    }
    built = {}
    for way, (module, make) in models.items():
        step = stepper(module, make(), jit, SHAPES[name], BATCH_SIZE[name])
        try:
            for _ in range(3):
                step()
        except Exception as error:  # tfmot's gradients have no XLA kernels
            print(f"{name}, {way}, XLA {jit}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
            continue
        built[way] = step
    return built


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


def measure(name: str, jit: bool, rounds: int) -> list[dict[str, Any]]:
    """Return a row per model: median milliseconds per step, on the clock and of all processors; ratios to plain."""
    built = variants(name, jit)
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in built}
    for turn in range(rounds):
        order = list(built.items())
        for way, step in order if turn % 2 == 0 else reversed(order):
            step()
            begun, used = time.perf_counter(), time.process_time()
            for _ in range(STEPS[name]):
                step()
            clock, processors = time.perf_counter() - begun, time.process_time() - used
            taken[way].append((clock / STEPS[name] * 1e3, processors / STEPS[name] * 1e3))
    rows = []
    for way, times in taken.items():
        plain = taken["tf_keras plain" if way in ("tf_keras plain", "tfmot int8") else "plain"]
        ratios = np.array(times) / np.array(plain)
        rows.append(
            {
                "network": name,
                "XLA": "on" if jit else "off",
                "model": way,
                "ms per step": f"{statistics.median(clock for clock, _ in times):.2f}",
                "processor ms": f"{statistics.median(used for _, used in times):.2f}",
                "ratio to plain": f"{np.median(ratios[:, 0]):.3f}",
                "middle half": "{:.3f} to {:.3f}".format(*np.percentile(ratios[:, 0], [25, 75])),
                "processor ratio": f"{np.median(ratios[:, 1]):.3f}",
            }
        )
    return rows
