"""python -m benchmarks.pruning [--part=mnist|cifar10] [--data=FOLDER]

What pruning costs in accuracy: the two networks for MNIST that every paper prunes, and ResNet-8 on CIFAR-10; writes
benchmarks/results/pruning_*.json. Takes hours: `cifar10` trains ResNet-8 twelve times.

    mnist    LeNet-300-100 and Caffe's LeNet-5, three seeds: how long, at which rate and with which weight decay they
             are pruned was chosen on other seeds. The dense network is also trained on for as long, in the same way
             but without masks
    cifar10  ResNet-8, from its trained weights, zeros beside tfmot's, and half of its multiplications less

For zeros of ResNet-8 both tools train for as long, on the same batches, at the same rate, and reach the sparsity at the
same step. Ours uses what tfmot has not: one budget for the whole network, and the network as it was for a teacher; once
it goes without both, layer by layer.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import dataclasses
import itertools
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data, peers
from benchmarks.files import accuracy, outputs
from benchmarks.harness import Setting, collected, mean_and_each, rows_of, run_parts, show
from benchmarks.networks import PIXEL, Fit, carry_weights, fit, lenet, resnet8, trained_resnet8
from tfcompress.channels.costs import total_multiply_adds as total

SEEDS = (0, 1, 2)

MNIST = "pruning_mnist"
SPARSITY = {"LeNet-300-100": 0.95, "LeNet-5": 0.98}
MNIST_EPOCHS = {"LeNet-300-100": (15, 30), "LeNet-5": (10, 20)}
"""Of the dense training, and of the pruning."""
MNIST_RATE = 5e-3
DECAY = 0.2

CIFAR10 = "pruning_cifar10"
EPOCHS = 16
RATE = 2e-3
CHANNELS_EPOCHS = (6, 26)
"""Whole channels: while they are chosen; of what `tfc.shrink` leaves, which learns anew rather than goes on."""
CHANNELS_RATE = 6e-3
FREQUENCY = 50
WAYS = {
    "tfcompress": "70 % zeros, tfcompress",
    "layerwise": "70 % zeros, tfcompress as tfmot does it",
    "tfmot": "70 % zeros, tfmot",
    "channels": "half of the multiplications, in whole channels",
    "float32": "trained on without pruning",
}
SCOPES = {"tfcompress": "global", "layerwise": "layer"}
"""Of the ways that prune single weights: what has one budget."""


def mnist(setting: Setting) -> None:
    """Train, prune, print and save."""
    train, test = data.mnist(setting.data)
    for name in SPARSITY:
        for seed in SEEDS:
            key = {"network": name, "seed": seed}
            collected(MNIST, setting.command, key, lambda name=name, seed=seed: on_mnist(name, seed, train, test))
    show("MNIST", mnist_summary(rows_of(MNIST)))


def mnist_summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
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


def on_mnist(name: str, seed: int, train: data.Arrays, test: data.Arrays) -> dict[str, Any]:
    """Return the accuracies of one seed: of the dense network, of it trained on, and of it pruned."""
    x = test[0].astype(np.float32)
    keras.utils.set_random_seed(seed)
    dense = lenet(name)
    first, second = MNIST_EPOCHS[name]
    fit(Fit(first, 1e-3, seed), keras, dense, train)
    how = Fit(second, MNIST_RATE, seed + 100, weight_decay=DECAY)
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
        """The step at which the sparsity is reached, after half of the time."""
        return self.how.epochs * self.how.steps(self.train) // 2 // FREQUENCY * FREQUENCY


def cifar10(setting: Setting) -> None:
    """Train, measure, print and save."""
    train, test = data.cifar10(setting.data)
    start = trained_resnet8(setting.data)

    def before() -> dict[str, Any]:
        value = accuracy(outputs(start, test[0].astype(np.float32)), test[1])
        return {"accuracy": value, **figures_of(start, start)}

    collected(CIFAR10, setting.command, {"way": "before", "seed": 0}, before)
    # By seed first, so that a job that is cut short has compared something; what needs no pruning at the end.
    jobs = itertools.product(SEEDS, WAYS)
    for seed, way in sorted(jobs, key=lambda item: item[1] == "float32"):
        epochs, rate = (CHANNELS_EPOCHS[0], CHANNELS_RATE) if way == "channels" else (EPOCHS, RATE)
        job = Job(way, start, train, test, Fit(epochs, rate, seed, augment=True))
        collected(CIFAR10, setting.command, {"way": way, "seed": seed}, lambda job=job: on_cifar10(job))
    show(
        f"ResNet-8 on CIFAR-10, {EPOCHS} epochs, with channels {sum(CHANNELS_EPOCHS)}",
        cifar10_summary(rows_of(CIFAR10)),
    )


def cifar10_summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each way: the mean of its seeds, and every one."""
    made = []
    for way in ("before", *WAYS):
        found = [row for row in rows if row["way"] == way]
        if not found:
            continue
        values = [row["accuracy"] for row in found]
        made.append(
            {
                "way": WAYS.get(way, way),
                "accuracy %": mean_and_each(values),
                "zeros %": f"{100 * found[0]['sparsity']:.1f}",
                "multiplications %": f"{100 * found[0]['multiplications']:.1f}",
                "weights": f"{found[0]['weights']:,}",
            }
        )
    return made


def on_cifar10(job: Job) -> dict[str, Any]:
    """Return the figures of one run."""
    keras.utils.set_random_seed(job.how.seed)
    return with_tfmot(job) if job.way == "tfmot" else with_keras(job)


def figures_of(model: keras.Model, start: keras.Model) -> dict[str, Any]:
    """Return how much of the network is there, beside what it was."""
    return {
        "sparsity": tfc.sparsity(model),
        "multiplications": total(model) / total(start),
        "weights": sum(row.size for row in tfc.summary(model).rows),
    }


def with_keras(job: Job) -> dict[str, Any]:
    """Train the dense network on, or ours: with masks on weights, or on channels that then are taken out."""
    model = keras.models.clone_model(job.start)
    model.set_weights(job.start.get_weights())
    if job.way in SCOPES:
        schedule = tfc.PolynomialSparsity(0.0, 0.7, begin_step=0, end_step=job.end, frequency=FREQUENCY)
        model = tfc.prune(model, tfc.PruneConfig(schedule, scope=SCOPES[job.way]))
    elif job.way == "channels":
        # Gradients are gathered for some steps first.
        schedule = tfc.PolynomialSparsity(0.0, 0.5, begin_step=FREQUENCY, end_step=job.end, frequency=FREQUENCY)
        model = tfc.prune(model, tfc.PruneConfig(schedule, criterion="gradient", granularity="channel", scope="flops"))
    _learn(job, model, job.how)
    if job.way == "channels":
        final = tfc.shrink(model)
        _learn(job, final, dataclasses.replace(job.how, epochs=CHANNELS_EPOCHS[1]))
    else:
        final = tfc.strip(model)
    return {"accuracy": accuracy(outputs(final, job.x), job.test[1]), **figures_of(final, job.start)}


def _learn(job: Job, model: keras.Model, how: Fit) -> None:
    taught = model if job.way in ("float32", "layerwise") else tfc.distill(model, job.start, temperature=4.0, alpha=0.7)
    fit(how, keras, taught, job.train)


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

    fit(job.how, tf_keras, model, job.train, scaled, callbacks=[sparsity.UpdatePruningStep()])
    final = sparsity.strip_pruning(model)
    kernels = [weight for weight in final.get_weights() if weight.ndim > 1]
    size = sum(kernel.size for kernel in kernels)
    return {
        "accuracy": accuracy(final.predict(scaled(job.x), batch_size=256, verbose=0), job.test[1]),
        "sparsity": 1 - sum(int(np.count_nonzero(kernel)) for kernel in kernels) / size,
        "multiplications": 1.0,
        "weights": size,
    }


if __name__ == "__main__":
    run_parts(
        "pruning",
        __doc__,
        {"mnist": mnist, "cifar10": cifar10},
        needed={"mnist": ("mnist.npz",), "cifar10": ("cifar10_jpeg.npz", "resnet8_cifar10_jpeg.keras")},
    )
