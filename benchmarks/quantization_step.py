"""Time of a training step with quantization, beside the plain step, and tfmot's beside tf_keras' plain step."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from typing import Any

import keras

import tfcompress as tfc
from benchmarks import peers
from benchmarks.quantization_networks import resnet8, small
from benchmarks.results import save, show
from benchmarks.steps import stepper, timed

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


def measure(name: str, jit: bool, rounds: int) -> list[dict[str, Any]]:
    """Return a row per model."""

    def base(way: str) -> str:
        return "tf_keras plain" if way in ("tf_keras plain", "tfmot int8") else "plain"

    rows = timed(variants(name, jit), rounds, STEPS[name], base)
    return [{"network": name, "XLA": "on" if jit else "off", **row} for row in rows]
