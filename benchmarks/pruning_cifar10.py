"""ResNet-8 on CIFAR-10 from its trained weights: zeros beside tfmot's, and half of its multiplications less."""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data, peers
from benchmarks.fitting import Fit, fit
from benchmarks.quantization_files import accuracy, outputs
from benchmarks.quantization_networks import PIXEL, carry_weights, resnet8, trained_resnet8
from benchmarks.results import cached, save, show
from tfcompress.surgery.costs import total_multiply_adds as total

SEEDS = (0, 1, 2)
EPOCHS = 10
RATE = 2e-3
FREQUENCY = 50
WAYS = ("float32", "tfcompress", "tfmot", "tfcompress channels")


@dataclasses.dataclass(frozen=True)
class Job:
    """One run: which way to train, from which model, on which images."""

    way: str
    start: keras.Model
    train: data.Arrays
    test: data.Arrays
    how: Fit

    @property
    def x(self) -> np.ndarray:
        """Images to judge by."""
        return self.test[0].astype(np.float32)

    @property
    def end(self) -> int:
        """The step at which the sparsity is reached."""
        return self.how.epochs * self.how.steps(self.train) * 3 // 5 // FREQUENCY * FREQUENCY


def run(folder: pathlib.Path, cache: pathlib.Path, rounds: int, command: str) -> None:
    """Train, measure, print and save."""
    del rounds
    train, test = data.cifar10(folder)
    start = trained_resnet8(folder)
    results: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    before = accuracy(outputs(start, test[0].astype(np.float32)), test[1])
    # By seed first, so that a job that is cut short has compared something.
    for seed in SEEDS:
        for way, figures in results.items():
            figures.append(once(Job(way, start, train, test, Fit(EPOCHS, RATE, seed, augment=True)), cache))
        rows = [summary(way, of_way, before) for way, of_way in results.items()]
        show(f"ResNet-8 on CIFAR-10, {EPOCHS} epochs", rows)
        save("pruning_cifar10", rows, command)


def summary(way: str, results: list[dict[str, Any]], before: float) -> dict[str, Any]:
    """Return the row of one way: means, and every seed."""
    values = [result["accuracy"] for result in results]
    return {
        "way": way,
        "accuracy before %": f"{before:.2f}",
        "accuracy %": f"{statistics.mean(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})",
        "zeros %": f"{100 * results[0]['sparsity']:.1f}",
        "multiplications %": f"{100 * results[0]['multiplications']:.1f}",
        "weights": f"{results[0]['weights']:,}",
        "processor s per epoch": round(statistics.median(result["seconds"] for result in results), 1),
    }


def once(job: Job, cache: pathlib.Path) -> dict[str, Any]:
    """Return the figures of one run, from the cache if they are there."""

    def make() -> dict[str, Any]:
        keras.utils.set_random_seed(job.how.seed)
        return with_tfmot(job) if job.way == "tfmot" else with_keras(job)

    return cached(cache / "pruning_cifar10" / f"{job.way.replace(' ', '_')}_{job.how.seed}.json", make)


def with_keras(job: Job) -> dict[str, Any]:
    """Train the dense network on, or ours: with masks on weights, or on channels that then are taken out."""
    model = keras.models.clone_model(job.start)
    model.set_weights(job.start.get_weights())
    if job.way == "tfcompress":
        schedule = tfc.PolynomialDecay(0.0, 0.7, begin_step=0, end_step=job.end, frequency=FREQUENCY)
        model = tfc.prune(model, schedule)
    elif job.way == "tfcompress channels":
        schedule = tfc.PolynomialDecay(0.0, 0.5, begin_step=0, end_step=job.end, frequency=FREQUENCY)
        config = tfc.PruneConfig(schedule, criterion="gradient", granularity="channel", scope="flops")
        config = dataclasses.replace(config, schedule=dataclasses.replace(schedule, begin_step=FREQUENCY))
        model = tfc.prune(model, config)
    seconds = fit(job.how, keras, model, job.train)
    final = tfc.shrink(model) if job.way == "tfcompress channels" else tfc.strip(model)
    rows = tfc.summary(final).rows
    return {
        "seconds": seconds,
        "accuracy": accuracy(outputs(final, job.x), job.test[1]),
        "sparsity": tfc.sparsity(final),
        "multiplications": total(final) / total(tfc.strip(job.start)),
        "weights": sum(row.size for row in rows),
    }


def with_tfmot(job: Job) -> dict[str, Any]:
    """Train tfmot's model of tf_keras on the same schedule."""
    sparsity = peers.tfmot().sparsity.keras
    import tf_keras

    tf_keras.utils.set_random_seed(job.how.seed)
    plain = resnet8(tf_keras, rescaling=False)
    carry_weights(job.start, plain)
    schedule = sparsity.PolynomialDecay(0.0, 0.7, 0, job.end, frequency=FREQUENCY)
    model = sparsity.prune_low_magnitude(plain, pruning_schedule=schedule)

    def scaled(x: np.ndarray) -> np.ndarray:
        return x * np.float32(PIXEL) - np.float32(1)

    seconds = fit(job.how, tf_keras, model, job.train, scaled, callbacks=[sparsity.UpdatePruningStep()])
    final = sparsity.strip_pruning(model)
    kernels = [weight for weight in final.get_weights() if weight.ndim > 1]
    size = sum(kernel.size for kernel in kernels)
    return {
        "seconds": seconds,
        "accuracy": accuracy(final.predict(scaled(job.x), batch_size=256, verbose=0), job.test[1]),
        "sparsity": 1 - sum(int(np.count_nonzero(kernel)) for kernel in kernels) / size,
        "multiplications": 1.0,
        "weights": size,
    }
