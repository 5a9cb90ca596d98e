"""Accuracy after training in mixed precision beside float32, three seeds: a network for MNIST, ResNet-8 on CIFAR-10."""

from __future__ import annotations

import pathlib
import statistics
import warnings
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data
from benchmarks.fitting import Fit, fit
from benchmarks.quantization_files import accuracy, outputs
from benchmarks.quantization_networks import small, trained_resnet8
from benchmarks.results import collected, mean_and_each, rows_of, show

SEEDS = (0, 1, 2)
POLICIES = {
    "mnist": ("float32", "mixed_bfloat16", "mixed_float16"),
    "cifar10": ("float32", "mixed_bfloat16"),
}
"""Convolutions in float16 take a CPU five times as long as in float32."""
WAYS = ("plain", "pruned", "int8")
EPOCHS = 4
RATE = 1e-3


def run(part: str, folder: pathlib.Path, rounds: int, command: str) -> None:
    """Train, measure, print and save; goes on where it stopped."""
    del rounds
    train, test = data.mnist(folder) if part == "mnist" else data.cifar10(folder)
    for seed in SEEDS:
        for way in WAYS if part == "mnist" else ("plain",):
            for policy in POLICIES[part]:
                key = {"model": way, "policy": policy, "seed": seed}
                collected(
                    f"precision_{part}",
                    command,
                    key,
                    lambda key=key: {"accuracy": once(part, key, folder, train, test)},
                )
    show(part, summary(rows_of(f"precision_{part}")))


def once(part: str, key: dict[str, Any], folder: pathlib.Path, train: data.Arrays, test: data.Arrays) -> float:
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
