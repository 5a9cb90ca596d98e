"""The two networks that every paper prunes: LeNet-300-100 and Caffe's LeNet-5 on MNIST, three seeds.

While a network is pruned it learns from itself as it was, dense, too.
"""

from __future__ import annotations

import pathlib
import statistics
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data
from benchmarks.fitting import Fit, fit
from benchmarks.quantization_files import accuracy, outputs
from benchmarks.results import cached, save, show

SEEDS = (0, 1, 2)
SPARSITY = {"LeNet-300-100": 0.95, "LeNet-5": 0.98}
EPOCHS = {"LeNet-300-100": (15, 30), "LeNet-5": (10, 20)}
"""Of the dense training, and of the pruning."""
RATE = 2e-3


def network(name: str) -> keras.Model:
    """Return one of the networks; pixel values in, logits out."""
    layers = keras.layers
    body = {
        "LeNet-300-100": [
            layers.Flatten(),
            layers.Dense(300, activation="relu", name="first"),
            layers.Dense(100, activation="relu", name="second"),
        ],
        "LeNet-5": [
            layers.Conv2D(20, 5, name="first"),
            layers.MaxPooling2D(),
            layers.Conv2D(50, 5, name="second"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(500, activation="relu", name="third"),
        ],
    }[name]
    return keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Rescaling(1 / 255), *body, layers.Dense(10, name="logits")]
    )


def run(folder: pathlib.Path, cache: pathlib.Path, rounds: int, command: str) -> None:
    """Train, prune, print and save."""
    del rounds
    train, test = data.mnist(folder)
    rows = []
    for name in SPARSITY:
        found = [
            cached(
                cache / "pruning_mnist" / f"{name}_{seed}.json",
                lambda name=name, seed=seed: once(name, seed, train, test),  # type: ignore[misc]
            )
            for seed in SEEDS
        ]
        rows.append(summary(name, found))
        show("MNIST", rows[-1:])
        save("pruning_mnist", rows, command)


def summary(name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a network: means, and every seed."""

    def errors(key: str) -> str:
        values = [100 - result[key] for result in found]
        return f"{statistics.mean(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})"

    return {
        "network": name,
        "weights": f"{found[0]['weights']:,}",
        "zeros %": round(100 * found[0]["sparsity"], 2),
        "dense error %": errors("dense"),
        "dense error %, trained on": errors("control"),
        "sparse error %": errors("sparse"),
    }


def once(name: str, seed: int, train: data.Arrays, test: data.Arrays) -> dict[str, Any]:
    """Return the accuracies of one seed: of the dense network, of it trained on, and of it pruned."""
    x = test[0].astype(np.float32)
    keras.utils.set_random_seed(seed)
    dense = network(name)
    first, second = EPOCHS[name]
    fit(Fit(first, 1e-3, seed), keras, dense, train)
    how = Fit(second, RATE, seed + 100)
    control = keras.models.clone_model(dense)
    control.set_weights(dense.get_weights())
    fit(how, keras, control, train)
    end = second * how.steps(train) * 2 // 5 // 50 * 50
    schedule = tfc.PolynomialDecay(0.0, SPARSITY[name], begin_step=0, end_step=end, frequency=50)
    pruned = tfc.prune(dense, tfc.PruneConfig(schedule, scope="global"))
    fit(how, keras, tfc.distill(pruned, dense, temperature=4.0, alpha=0.7), train)
    sparse = tfc.strip(pruned)
    return {
        **{
            way: accuracy(outputs(model, x), test[1])
            for way, model in (("dense", dense), ("control", control), ("sparse", sparse))
        },
        "sparsity": tfc.sparsity(sparse),
        "weights": sum(row.size for row in tfc.summary(sparse).rows),
    }
