"""LeNet-300-100 and Caffe's LeNet-5 as small .onnx files that run as they are: bytes and errors on MNIST."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data
from benchmarks.files import Folder, accuracy, outputs
from benchmarks.harness import Setting, collected, mean_and_each, rows_of, show
from benchmarks.networks import Fit, fit, lenet

RUNS = "compression_lenets"

SEEDS = (0, 1, 2)
"""Of what is reported."""

VALIDATION = 5000
"""Of the training images, the last ones: nothing is trained on them, what is chosen is chosen by them."""

CALIBRATION = 512
FREQUENCY = 50
VALUES = 9
"""Of a kernel: 0, and as many others as codes of 3 bits tell apart."""

PUBLISHED = {
    name: {
        "file": "Deep Compression's stream, published",
        "zeros %": "92",
        "values": "-",
        "bytes": size,
        "smaller than float": smaller,
        "error %": error,
        "float error %": before,
    }
    for name, size, smaller, error, before in (
        ("LeNet-300-100", "27,000", "40x", "1.58", "1.64"),
        ("LeNet-5", "44,000", "39x", "0.74", "0.80"),
    )
}
"""Table 1 of Han et al., 2016, arXiv:1510.00149."""

LAYERS = {"LeNet-300-100": ("first", "second", "logits"), "LeNet-5": ("first", "second", "third", "logits")}
"""Those with a kernel."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a network gets small.

    Attributes:
        left: How many weights each layer keeps, one file after the other.
        dense: Epochs before.
        half: Epochs in which half of the channels of each layer go; 0: they stay.
        prune: Epochs of each pruning.
        narrow: Epochs of each file, with few values.
        rates: Of the dense network, of both prunings, of a file.
        decay: Of the weights, in the same.
        batch_size: Samples in a batch.
        shift: Pixels by which images are shifted at most.
        alpha: The share of the loss that is what the dense network says, once there is one; 0: it doesn't teach.
    """

    left: tuple[tuple[int, ...], ...]
    dense: int
    half: int
    prune: tuple[int, ...]
    narrow: int
    rates: tuple[float, float, float]
    decay: tuple[float, float, float]
    batch_size: int
    shift: int
    alpha: float


PLANS = {
    "LeNet-300-100": Plan(
        ((9_500, 2_600, 400), (7_000, 2_000, 350), (4_600, 1_300, 300)),
        dense=15,
        half=0,
        prune=(14, 8, 8),
        narrow=2,
        rates=(2e-3, 2e-3, 3e-4),
        decay=(0.05, 0.05, 0.0),
        batch_size=128,
        shift=1,
        alpha=0.5,
    ),
    "LeNet-5": Plan(
        ((200, 2_600, 3_300, 600), (150, 1_700, 2_000, 450), (100, 1_000, 1_200, 350)),
        dense=4,
        half=3,
        prune=(20, 8, 8),
        narrow=2,
        rates=(2e-3, 5e-3, 5e-4),
        decay=(0.05, 0.1, 0.0),
        batch_size=256,
        shift=1,
        alpha=0.0,
    ),
}


def lenets(setting: Setting) -> None:
    """Train, prune, export, print and save; each file's figures are kept as soon as they are there."""
    train, test = data.mnist(setting.data)
    folder = Folder(setting.cache / "lenets")
    for stage in range(len(PLANS["LeNet-5"].left)):
        for name, plan in PLANS.items():
            for seed in SEEDS:
                Job(name, plan, seed, train, test, folder).run(stage, setting.command)
    show("LeNets on MNIST", summary(rows_of(RUNS)))


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each network and number of weights, means and each seed; then what is published."""
    made = []
    for name in [name for name in PLANS if any(row["network"] == name for row in rows)]:
        for left in sorted({row["weights left"] for row in rows if row["network"] == name}, reverse=True):
            found = [row for row in rows if (row["network"], row["weights left"]) == (name, left)]
            sizes = [row["bytes"] for row in found]
            size = statistics.mean(sizes)
            made.append(
                {
                    "network": name,
                    "file": ".onnx",
                    "zeros %": f"{100 * (1 - left / found[0]['weights']):.1f}",
                    "values": max(row["values"] for row in found),
                    "bytes": f"{size:,.0f}" + (f" ({', '.join(map(str, sizes))})" if len(sizes) > 1 else ""),
                    "smaller than float": f"{statistics.mean(row['float bytes'] for row in found) / size:.0f}x",
                    "error %": mean_and_each([row["error %"] for row in found]),
                    "float error %": mean_and_each([row["float error %"] for row in found]),
                }
            )
        made.append({"network": name, **PUBLISHED[name]})
    return made


@dataclasses.dataclass(frozen=True)
class Job:
    """One network from one seed."""

    name: str
    plan: Plan
    seed: int
    train: data.Arrays
    test: data.Arrays
    folder: Folder

    @property
    def shown(self) -> data.Arrays:
        """What is trained on."""
        return self.train[0][:-VALIDATION], self.train[1][:-VALIDATION]

    def run(self, stage: int, command: str) -> None:
        """Make one of the files, and what it is made of; what is there already is taken."""
        key = {"network": self.name, "weights left": sum(self.plan.left[stage]), "seed": self.seed}
        collected(RUNS, command, key, lambda: self.file(self.sparse(stage)))

    def kept(self, stage: str, make: Callable[[], keras.Model]) -> keras.Model:
        """Return a model from its file, made if it isn't there."""
        path = self.folder.path / f"{self.name} {self.seed} {stage}.keras"
        if not path.exists():
            tfc.save(make(), path, overwrite=True)
        model = keras.models.load_model(path, compile=False)
        assert isinstance(model, keras.Model)
        return model

    @functools.cached_property
    def dense(self) -> keras.Model:
        """The network, trained."""

        def trained() -> keras.Model:
            keras.utils.set_random_seed(self.seed)
            model = keras.Sequential([keras.Input((28, 28, 1)), *lenet(self.name).layers[1:]])  # without its Rescaling
            fit(self.how(0, self.plan.dense, 0), keras, model, self.shown, scaled)
            return model

        return self.kept("dense", trained)

    @functools.cached_property
    def thin(self) -> keras.Model:
        """The network that weights are pruned of: with half of its channels, or as it is."""

        def halved() -> keras.Model:
            how = self.how(1, self.plan.half, 1)
            schedule = tfc.PolynomialSparsity(0.0, 0.5, 0, self.middle(how), frequency=FREQUENCY)
            masked = tfc.prune(self.dense, tfc.PruneConfig(schedule, granularity="channel"))
            self.fit(how, masked)
            return tfc.shrink(masked)

        return self.kept("half", halved) if self.plan.half else self.dense

    def sparse(self, stage: int) -> keras.Model:
        """Return the network with so many weights, without units that nothing depends on."""
        left = dict(zip(LAYERS[self.name], self.plan.left[stage], strict=True))

        def pruned() -> keras.Model:
            model = self.sparse(stage - 1) if stage else self.thin
            how = self.how(1, self.plan.prune[stage], 10 + stage)
            before, after = tfc.sparsity(model), 1 - sum(left.values()) / weights(model)
            schedule = tfc.PolynomialSparsity(before, after, 0, self.middle(how), frequency=FREQUENCY)
            sizes = {row.layer: row.size for row in tfc.summary(model).rows}
            by_layer = {name: 1 - count / sizes[name] for name, count in left.items()}
            masked = tfc.prune(model, tfc.PruneConfig(schedule, allocation=by_layer))
            self.fit(how, masked)
            return tfc.shrink(masked)

        return self.kept(f"{sum(left.values())}", pruned)

    def file(self, sparse: keras.Model) -> dict[str, Any]:
        """Return the figures of a file whose weights have few values."""
        shared = tfc.cluster(sparse, VALUES, init="kmeans")
        config = tfc.QuantizeConfig(tfc.WeightSpec(granularity="per_tensor"))
        model = tfc.quantize(shared, config, scaled(self.shown[0][:CALIBRATION]))
        self.fit(self.how(2, self.plan.narrow, 20), model)
        kernels = [weight for weight in tfc.strip(model).get_weights() if weight.ndim > 1]
        left = int(sum(np.count_nonzero(kernel) for kernel in kernels))
        path = self.folder.name(f"{self.name} {self.seed} {left}", ".onnx")
        artifact = tfc.export(model, path, weights="coded", overwrite=True)
        plain = tfc.export(self.dense, self.folder.name(f"{self.name} {self.seed}", ".onnx"), overwrite=True)
        return {
            "weights": weights(self.dense),
            "nonzeros": left,
            "values": max(len(np.unique(kernel)) for kernel in kernels),
            "bytes": artifact.nbytes,
            "float bytes": plain.nbytes,
            "error %": self.error(artifact.path),
            "validation error %": self.error(artifact.path, validation=True),
            "sparse validation error %": self.error(sparse, validation=True),
            "float error %": self.error(self.dense),
            "float validation error %": self.error(self.dense, validation=True),
            "stored": [f"{one.layer}: {one.parameters} in {one.nbytes} bytes, {one.form}" for one in artifact.weights],
        }

    def how(self, part: int, epochs: int, number: int) -> Fit:
        """Return how to train: dense, in pruning, or with few values."""
        rate, decay = self.plan.rates[part], self.plan.decay[part]
        seed = 100 * self.seed + number
        return Fit(epochs, rate, seed, batch_size=self.plan.batch_size, shift=self.plan.shift, weight_decay=decay)

    def middle(self, how: Fit) -> int:
        """Return the step after half of a training, at which all that goes is gone."""
        return how.epochs * how.steps(self.shown) // 2 // FREQUENCY * FREQUENCY

    def fit(self, how: Fit, model: keras.Model) -> None:
        """Train on the labels, or on them and what the dense network says."""
        alpha = self.plan.alpha
        student = tfc.distill(model, self.dense, temperature=4.0, alpha=alpha) if alpha else model
        fit(how, keras, student, self.shown, scaled)

    def error(self, model: keras.Model | pathlib.Path, validation: bool = False) -> float:
        """Return the error of a model or file on the test images, or on those to validate, in per cent."""
        x, y = (array[-VALIDATION:] for array in self.train) if validation else self.test
        return round(100 - accuracy(outputs(model, scaled(x)), y), 2)


def scaled(images: np.ndarray) -> np.ndarray:
    """Return pixels of 0 to 1, which the networks and the files take."""
    return images.astype(np.float32) / np.float32(255)


def weights(model: keras.Model) -> int:
    """Return how many weights kernels have, zeros counted."""
    return sum(row.size for row in tfc.summary(model).rows)
