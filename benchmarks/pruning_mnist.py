"""The two networks that every paper prunes: LeNet-300-100 and Caffe's LeNet-5 on MNIST, three seeds.

How long, at which rate and with which weight decay they are pruned was chosen on other seeds. The dense network is also
trained on for as long, in the same way but without masks.
"""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data
from benchmarks.fitting import Fit, fit
from benchmarks.quantization_files import accuracy, outputs
from benchmarks.results import collected, mean_and_each, rows_of, show

NAME = "pruning_mnist"
SEEDS = (0, 1, 2)
SPARSITY = {"LeNet-300-100": 0.95, "LeNet-5": 0.98}
EPOCHS = {"LeNet-300-100": (15, 30), "LeNet-5": (10, 20)}
"""Of the dense training, and of the pruning."""
RATE = 5e-3
DECAY = 0.2


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
    del cache, rounds
    train, test = data.mnist(folder)
    for name in SPARSITY:
        for seed in SEEDS:
            key = {"network": name, "seed": seed}
            collected(NAME, command, key, lambda name=name, seed=seed: once(name, seed, train, test))
    show("MNIST", summary(rows_of(NAME)))


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each network: mean errors, and those of every seed."""
    made = []
    for name in dict.fromkeys(row["network"] for row in rows):
        found = [row for row in rows if row["network"] == name]

        def errors(key: str, found: list[dict[str, Any]] = found) -> str:
            return mean_and_each([100 - row[key] for row in found])

        made.append(
            {
                "network": name,
                "weights": f"{found[0]['weights']:,}",
                "zeros %": f"{100 * found[0]['sparsity']:.2f}",
                "dense error %": errors("dense"),
                "sparse error %": errors("sparse"),
                "dense error %, trained on": errors("control"),
            }
        )
    return made


def once(name: str, seed: int, train: data.Arrays, test: data.Arrays) -> dict[str, Any]:
    """Return the accuracies of one seed: of the dense network, of it trained on, and of it pruned."""
    x = test[0].astype(np.float32)
    keras.utils.set_random_seed(seed)
    dense = network(name)
    first, second = EPOCHS[name]
    fit(Fit(first, 1e-3, seed), keras, dense, train)
    how = Fit(second, RATE, seed + 100, weight_decay=DECAY)
    control = keras.models.clone_model(dense)
    control.set_weights(dense.get_weights())
    fit(how, keras, control, train)
    end = second * how.steps(train) * 2 // 5 // 50 * 50
    schedule = tfc.PolynomialSparsity(0.0, SPARSITY[name], begin_step=0, end_step=end, frequency=50)
    pruned = tfc.prune(dense, tfc.PruneConfig(schedule, scope="global"))
    fit(how, keras, pruned, train)
    sparse = tfc.strip(pruned)
    return {
        **{
            way: accuracy(outputs(model, x), test[1])
            for way, model in (("dense", dense), ("control", control), ("sparse", sparse))
        },
        "sparsity": tfc.sparsity(sparse),
        "weights": sum(row.size for row in tfc.summary(sparse).rows),
    }
