"""Time of a training step on the CPU in each precision, of plain, pruned and quantized networks, all in turns."""

from __future__ import annotations

import pathlib
import warnings
from typing import Any

import keras

import tfcompress as tfc
from benchmarks.quantization_networks import resnet8, small
from benchmarks.results import save, show
from benchmarks.steps import Times, compared, stepper, turns

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
WAYS = ("plain", "pruned", "int8")
BATCH_SIZE = 64
STEPS = {"dense": 5, "small": 5, "ResNet-8": 2}
SHAPES = {"dense": (1024,), "small": (28, 28, 1), "ResNet-8": (32, 32, 3)}


def network(name: str) -> keras.Model:
    """Return one of the networks."""
    if name == "dense":
        layers = [keras.layers.Dense(1024, activation="relu") for _ in range(4)]
        return keras.Sequential([keras.Input((1024,)), *layers, keras.layers.Dense(10)])
    return small(keras) if name == "small" else resnet8(keras)


def compressed(model: keras.Model, policy: str, way: str) -> keras.Model:
    """Return a network in a precision, pruned or quantized or as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that float16 is slow on a CPU is what is measured
        model = model if policy == "float32" else tfc.mixed_precision(model, policy)
    if way == "pruned":
        return tfc.prune(model, tfc.ConstantSparsity(0.8, begin_step=1, frequency=100))
    return tfc.quantize(model, "int8") if way == "int8" else model


def beside_float32(taken: Times) -> list[dict[str, Any]]:
    """Return a row for each "policy way" that was timed, compared with the same way in float32."""
    rows = []
    for row in compared(taken, lambda key: f"float32 {key.split()[1]}"):
        policy, way = row["model"].split()
        rows.append(
            {
                "model": way,
                "policy": policy,
                "ms per step": row["ms per step"],
                "ratio to float32": row["ratio to plain"],
                "middle half": row["middle half"],
            }
        )
    return rows


def run(part: str, folder: pathlib.Path, rounds: int, command: str) -> None:
    """Measure, print and save."""
    del part, folder
    rows: list[dict[str, Any]] = []
    for name, steps in STEPS.items():
        built = {}
        for policy in POLICIES:
            for way in WAYS:
                model = compressed(network(name), policy, way)
                built[f"{policy} {way}"] = stepper(keras, model, False, SHAPES[name], BATCH_SIZE)
        for step in built.values():
            step()
        rows += [{"network": name, **row} for row in beside_float32(turns(built, rounds, steps))]
        show(f"A training step, batch {BATCH_SIZE}", rows)
        save("precision_step", rows, command)
