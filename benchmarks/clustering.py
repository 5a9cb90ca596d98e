"""What clustering costs: a training step, and the time and memory in which a large model is clustered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data, peers
from benchmarks.files import accuracy, outputs
from benchmarks.harness import (
    AT_ONCE,
    Memory,
    Setting,
    clocks,
    compared,
    each_step,
    in_a_process,
    save,
    show,
)
from benchmarks.networks import large_layers, small, stepper, trained_resnet8
from tfcompress.quantization.weights.levels import LEVELS

CLUSTERS = 16
SHAPE, BATCH_SIZE = (28, 28, 1), 128
INITS = ("kmeans++", "density", "kmeans")
BITS = (2, 3, 4, 8)
JUDGED = ("uniform", "kmeans")
"""Codebooks with which the network is run, too."""

STEPS = 10
"""In a round: some hold the search for values without weights."""


def stepping(jit: bool) -> dict[str, Callable[[], None]]:
    """Return one step function for each model."""
    clustering = peers.tfmot().clustering.keras
    import tf_keras

    def of(module: Any, model: Any) -> Callable[[], None]:
        return stepper(module, model, jit, SHAPE, BATCH_SIZE)

    return {
        "plain": of(keras, small(keras)),
        "tfcompress": of(keras, tfc.cluster(small(keras), CLUSTERS)),
        "tfcompress, per channel": of(keras, tfc.cluster(small(keras), 8, granularity="per_channel")),
        "tf_keras plain": of(tf_keras, small(tf_keras)),
        "tfmot": of(tf_keras, clustering.cluster_weights(small(tf_keras), number_of_clusters=CLUSTERS)),
    }


def cluster(setting: Setting) -> None:
    """Measure, print and save."""
    rows: list[dict[str, Any]] = []
    for jit in (False, True):
        taken = each_step(stepping(jit), setting.rounds, STEPS)
        made = compared(taken, lambda way: "tf_keras plain" if way in ("tfmot", "tf_keras plain") else "plain")
        kept = ("model", "processor ratio")  # the clock's is that of what else runs
        rows += [{"XLA": "on" if jit else "off", **{name: row[name] for name in kept}} for row in made]
    show(f"A training step with {CLUSTERS} clusters, beside tfmot's", rows)
    save("compression_cluster_step", rows, setting.command)


def codebooks(setting: Setting) -> None:
    """Measure, print and save."""
    model = trained_resnet8(setting.data)
    found = tfc.compare_codebooks(model, bits=BITS)
    _, (images, y) = data.cifar10(setting.data)
    x = images.astype(np.float32)
    rows = []
    for method in found.methods:
        for bits in BITS:
            row: dict[str, Any] = {"codebook": method, "bits": bits}
            row["signal to noise, dB"] = f"{found.signal_to_noise(method, bits):.1f}"
            how = {"codebook": method} if method in LEVELS else {"init": method}
            count = 2**bits - (method in LEVELS)
            judged = "-"
            if method in JUDGED and bits < 8:
                plain = tfc.strip(tfc.cluster(model, count, preserve_sparsity=False, **how))
                judged = f"{accuracy(outputs(plain, x), y):.2f}"
            row["accuracy % without training"] = judged
            rows.append(row)
            print(row, flush=True)
    show("ResNet-8's kernels with one table each", rows)
    save("compression_codebooks", rows, setting.command)


def cluster_large(setting: Setting) -> None:
    """Measure, each in a process of its own; print and save."""
    rows = []
    for kernels in (1, 4):
        for init in INITS:
            found = in_a_process("compression", "--here=clustered", init, str(kernels), environment=AT_ONCE)
            rows.append({"init": init, "kernels": kernels, **found})
    show("Clustering 25 million weights", rows)
    save("compression_cluster_large", rows, setting.command)


def clustered(init: str, kernels: str) -> dict[str, Any]:
    """Return the row of one kind of start."""
    if int(kernels) == 1:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((5000,)), keras.layers.Dense(5000)])
    else:
        model = large_layers("dense", 25)
    tfc.cluster(small(keras), CLUSTERS, init=init)  # what is done once in a process
    with Memory() as memory:
        begun = clocks()
        made = tfc.cluster(model, CLUSTERS, init=init)
        ended = clocks()
    return {
        "weights": f"{model.count_params():,}",
        "processor s": round(ended[1] - begun[1], 2),
        "more MB": round(memory.more),
        "peak MB": round(memory.most),
        "distinct": sorted({row.distinct for row in tfc.summary(made).rows if row.weight})[-1],
    }
