"""python -m benchmarks.precision [--part=step|memory|mnist|cifar10|gpu] [--data=FOLDER]

Training in mixed precision beside float32; writes benchmarks/results/precision_*.json. Without --part all but `gpu` are
run, which takes hours: `cifar10` trains ResNet-8 on a CPU.

    step     time of a training step: float32, bfloat16 and float16; plain, pruned and quantized, in turns
    memory   what the activations of a training step take, each in a process of its own
    mnist    accuracy of a small network, three seeds
    cifar10  accuracy of ResNet-8, trained on from its weights, three seeds
    gpu      the step of ResNet50 on a GPU, through Keras' JAX backend: KERAS_BACKEND=jax
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if os.environ.get("KERAS_BACKEND") != "jax":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import functools
import pathlib
import statistics
import sys
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data
from benchmarks.files import accuracy, outputs
from benchmarks.harness import (
    AT_ONCE,
    Memory,
    Setting,
    collected,
    compared,
    each_step,
    in_a_process,
    mean_and_each,
    rows_of,
    run_parts,
    save,
    show,
)
from benchmarks.networks import Fit, fit, resnet8, small, stepper, trained_resnet8

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
WAYS = ("plain", "pruned", "int8")

BATCH_SIZE = 64
STEPS = {"dense": 5, "small": 5, "ResNet-8": 2}
SHAPES = {"dense": (1024,), "small": (28, 28, 1), "ResNet-8": (32, 32, 3)}

MEMORY_BATCH_SIZE = 32
MEMORY_STEPS = 3

SEEDS = (0, 1, 2)
TRAINED_IN = {"mnist": POLICIES, "cifar10": POLICIES[:2]}
"""Convolutions in float16 take a CPU five times as long as in float32."""
EPOCHS = 4
RATE = 1e-3

GPU_BATCH_SIZE = 128
GPU_STEPS = 10
SIDE = 224


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


def beside_float32(taken: dict[str, np.ndarray]) -> list[dict[str, Any]]:
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


def step(setting: Setting) -> None:
    """Measure, print and save."""
    rows: list[dict[str, Any]] = []
    for name, steps in STEPS.items():
        built = {}
        for policy in POLICIES:
            for way in WAYS:
                model = compressed(network(name), policy, way)
                built[f"{policy} {way}"] = stepper(keras, model, False, SHAPES[name], BATCH_SIZE)
        rows += [{"network": name, **row} for row in beside_float32(each_step(built, setting.rounds, steps))]
        show(f"A training step, batch {BATCH_SIZE}", rows)
        save("precision_step", rows, setting.command)


def memory(setting: Setting) -> None:
    """Measure, print and save."""
    rows: list[dict[str, Any]] = []
    for policy in POLICIES:
        row: dict[str, Any] = {"policy": policy}
        for way in WAYS:
            row[f"{way}, MB"] = round(
                in_a_process("precision", "--here=training_memory", policy, way, environment=AT_ONCE)
            )
        rows.append(row)
    show(f"Memory of training steps, MobileNetV2 at 96 pixels, batch {MEMORY_BATCH_SIZE}", rows)
    save("precision_memory", rows, setting.command)


def training_memory(policy: str, way: str) -> float:
    """Return the MB that steps take beyond the model and its optimizer."""
    keras.utils.set_random_seed(0)
    model = compressed(keras.applications.MobileNetV2((96, 96, 3), weights=None, classes=10), policy, way)
    model.compile(keras.optimizers.SGD(), "sparse_categorical_crossentropy", jit_compile=False)
    generator = np.random.default_rng(0)
    x = generator.standard_normal((MEMORY_BATCH_SIZE, 96, 96, 3), np.float32)
    y = generator.integers(0, 10, MEMORY_BATCH_SIZE)
    model.train_on_batch(x, y)  # traces
    with Memory() as memory:
        for _ in range(MEMORY_STEPS):
            model.train_on_batch(x, y)
    return memory.more


def train(part: str, setting: Setting) -> None:
    """Train, measure, print and save; goes on where it stopped."""
    split = data.mnist(setting.data) if part == "mnist" else data.cifar10(setting.data)
    for seed in SEEDS:
        for way in WAYS if part == "mnist" else ("plain",):
            for policy in TRAINED_IN[part]:
                key = {"model": way, "policy": policy, "seed": seed}
                collected(
                    f"precision_{part}",
                    setting.command,
                    key,
                    lambda key=key: {"accuracy": trained_accuracy(part, key, setting.data, *split)},
                )
    show(part, summary(rows_of(f"precision_{part}")))


def trained_accuracy(
    part: str, key: dict[str, Any], folder: pathlib.Path, train: data.Arrays, test: data.Arrays
) -> float:
    """Return the accuracy, in percent, of the trained network computed in float32."""
    keras.utils.set_random_seed(key["seed"])
    model = small(keras, 1 / 255) if part == "mnist" else trained_resnet8(folder)
    how = Fit(EPOCHS, RATE, key["seed"], augment=part == "cifar10")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # float16 is slow on a CPU
        model = model if key["policy"] == "float32" else tfc.mixed_precision(model, key["policy"])
    if key["model"] == "pruned":
        end = how.epochs * how.steps(train) // 2
        model = tfc.prune(model, tfc.PolynomialSparsity(0.0, 0.8, begin_step=0, end_step=end, frequency=50))
    elif key["model"] == "int8":
        model = tfc.quantize(model, "int8")
    fit(how, keras, model, train)
    final = model if key["policy"] == "float32" else tfc.full_precision(model)
    return accuracy(outputs(final, test[0].astype(np.float32)), test[1])


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each model and policy: the mean of its seeds, and every one."""
    made = []
    for way, policy in dict.fromkeys((row["model"], row["policy"]) for row in rows):
        values = [row["accuracy"] for row in rows if (row["model"], row["policy"]) == (way, policy)]
        base = [row["accuracy"] for row in rows if (row["model"], row["policy"]) == (way, "float32")]
        made.append(
            {
                "model": way,
                "policy": policy,
                "accuracy %": mean_and_each(values),
                "beside float32": f"{statistics.mean(values) - statistics.mean(base[: len(values)]):+.2f}",
            }
        )
    return made


def gpu(setting: Setting) -> None:
    """Measure, print and save."""
    if keras.backend.backend() != "jax":
        sys.exit("Expected KERAS_BACKEND=jax. Received: another backend.")
    import jax

    if jax.default_backend() != "gpu":
        sys.exit(f"Expected a GPU. Received: {jax.devices()}.")
    rows = on_gpu(lambda: keras.applications.ResNet50(weights=None), SIDE, GPU_BATCH_SIZE, setting.rounds, GPU_STEPS)
    device = jax.devices()[0].device_kind
    show(f"A training step of ResNet50, batch {GPU_BATCH_SIZE}, {device}", rows)
    save("precision_gpu", [{"device": device, **row} for row in rows], f"KERAS_BACKEND=jax {setting.command}")


def on_gpu(make: Callable[[], Any], side: int, size: int, rounds: int, steps: int) -> list[dict[str, Any]]:
    """Return a row for each precision and each way, of networks that `make` returns.

    Args:
        make: Returns a network for images of three channels, with probabilities of 1000 classes out.
        side: Of the images, in pixels.
        size: Samples in a batch.
        rounds: Of timing.
        steps: In a round.
    """
    generator = np.random.default_rng(0)
    x = generator.standard_normal((size, side, side, 3), np.float32)
    y = generator.integers(0, 1000, size)
    built = {}
    for policy in POLICIES:
        for way in WAYS:
            keras.utils.set_random_seed(0)
            built[f"{policy} {way}"] = jax_stepper(compressed(make(), policy, way), x, y)
    taken = each_step(built, rounds, steps)
    plain = compared(taken, lambda key: f"{key.split()[0]} plain")
    return [
        {**row, "ratio to plain": beside["ratio to plain"]}
        for row, beside in zip(beside_float32(taken), plain, strict=True)
    ]


def jax_stepper(model: Any, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
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


if __name__ == "__main__":
    run_parts(
        "precision",
        __doc__,
        {
            "step": step,
            "memory": memory,
            "mnist": functools.partial(train, "mnist"),
            "cifar10": functools.partial(train, "cifar10"),
            "gpu": gpu,
        },
        rounds=15,
        needed={"mnist": ("mnist.npz",), "cifar10": ("cifar10_jpeg.npz", "resnet8_cifar10_jpeg.keras")},
        apart={"training_memory": training_memory},
        by_hand=("gpu",),
    )
