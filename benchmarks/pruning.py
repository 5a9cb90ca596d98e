"""python -m benchmarks.pruning [--part=mnist|cifar10|speed|training|step|mask] [--data=FOLDER]

Pruning beside tfmot's; writes benchmarks/results/pruning_*.json and training.json. Without --part all are run, which
takes hours: `cifar10` trains ResNet-8 twelve times.

    mnist     LeNet-300-100 and LeNet-5 of Caffe, three seeds: test error of the dense and of the sparse network
    cifar10   ResNet-8 with 70 % zeros, beside tfmot's; with half of its multiplications, in whole channels
    speed     MobileNetV2 and ResNet50 with half of their channels, float32 and int8, TFLite and ONNX, on one thread
    training  time of a training step, masks computed every 100 steps or at every one, beside tfmot's on tf_keras
    step      time of a training step with each criterion, granularity and scope, beside the plain step
    mask      time and memory of one computation of the masks of 25 million weights, with one common budget
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import dataclasses
import gc
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfcompress as tfc
from benchmarks import peers
from benchmarks.files import File, Folder, runner
from benchmarks.harness import (
    AT_ONCE,
    Memory,
    Setting,
    compared,
    each_step,
    in_a_process,
    milliseconds,
    per_round,
    run_parts,
    save,
    show,
    stepper,
)
from benchmarks.networks import large, small
from benchmarks.pruning_accuracy import cifar10, mnist
from tfcompress.channels.costs import total_multiply_adds as total
from tfcompress.core.wrapper import wrapped_layers

NETWORKS = ("MobileNetV2", "ResNet50")
IMAGES = 8
SHARE = 0.5

BATCH_SIZE = 128
PERIOD = 100
"""Masks are computed once in so many steps."""

WIDTHS = (2500, 2500, 2500, 2500, 2500)
PROCESSES = 5
GRANULARITIES = ("element", "block 16 x 1", "2 of 4", "channel")


def speed(setting: Setting) -> None:
    """Measure, print and save."""
    rows = []
    for name in NETWORKS:
        rows += timed_files(name, Folder(setting.cache / f"pruned_{name}"), setting.rounds)
        show(f"One inference, one thread, {name}", rows[-8:])
        save("pruning_speed", rows, setting.command)


def timed_files(name: str, target: Folder, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each file; ratios are taken round by round."""
    x = np.random.default_rng(0).uniform(-1, 1, (IMAGES, 224, 224, 3)).astype(np.float32)
    whole = tfc.strip(large(name))
    thin = tfc.shrink(tfc.prune_once(whole, SHARE, granularity="channel"))
    files: list[tuple[str, str, float, File]] = []
    for title, model in (("whole", whole), (f"{SHARE:.0%} of the channels less", thin)):
        share = total(model) / total(whole)
        for numbers, made in (("float32", model), ("int8", tfc.quantize(model, "int8", x, batch_size=4))):
            way = f"{numbers} {'whole' if model is whole else 'small'}"
            files += [(title, numbers, share, file) for file in target.ours(way, made, verify=False)]
            gc.collect()
        keras.backend.clear_session()
    times = per_round(each_step({file: runner(file.path, x) for *_, file in files}, rounds, milliseconds=100))
    rows = []
    for title, numbers, share, file in files:
        (before,) = (
            times[one]
            for base, kind, _, one in files
            if base == "whole" and kind == numbers and one.format == file.format
        )
        rows.append(
            {
                "network": name,
                "format": file.format,
                "numbers": numbers,
                "model": title,
                "multiplications %": f"{100 * share:.1f}",
                "bytes": file.path.stat().st_size,
                **milliseconds(times[file]),
                "faster": f"{np.median(before / times[file]):.2f}x",
            }
        )
    return rows


def configs() -> dict[str, tfc.PruneConfig]:
    """Return what is measured, by its name."""
    often = tfc.ConstantSparsity(0.8, begin_step=1, frequency=PERIOD)
    half = dataclasses.replace(often, target_sparsity=0.5)
    return {
        "magnitude": tfc.PruneConfig(often),
        "magnitude, global": tfc.PruneConfig(often, scope="global"),
        "magnitude, multiplications": tfc.PruneConfig(often, scope="flops"),
        "threshold": tfc.PruneConfig(often, criterion="threshold", threshold=0.05),
        "random": tfc.PruneConfig(often, criterion="random"),
        "blocks of 16 x 1": tfc.PruneConfig(often, granularity=tfc.Block(16, 1)),
        "2 of 4": tfc.PruneConfig(half, granularity=tfc.NofM(2, 4)),
        "channels": tfc.PruneConfig(often, granularity="channel"),
        "gradient": tfc.PruneConfig(often, criterion="gradient"),
        "movement": tfc.PruneConfig(often, criterion="movement"),
        "regrowth": tfc.PruneConfig(tfc.Regrowth(0.8, begin_step=1, end_step=10**8, frequency=PERIOD)),
    }


def step(setting: Setting) -> None:
    """Measure, print and save."""
    rows: list[dict[str, Any]] = []
    for jit in (False, True):
        built = {
            name: stepper(keras, small(keras), jit, (28, 28, 1), BATCH_SIZE) for name in ("plain", "plain, once more")
        }
        for name, config in configs().items():
            layers = ["second", "hidden"] if isinstance(config.granularity, tfc.Block) else None
            model = tfc.prune(small(keras), config, layers=layers)
            built[name] = stepper(keras, model, jit, (28, 28, 1), BATCH_SIZE)
        taken = each_step(built, setting.rounds, PERIOD)
        rows += [{"XLA": "on" if jit else "off", **row} for row in compared(taken, lambda way: "plain")]
        show("A training step", rows)
        save("pruning_step", rows, setting.command)


def beside_tfmot(jit: bool) -> dict[str, Callable[[], None]]:
    """Return one step function for each model: plain; with masks computed once in `PERIOD` steps, or at every one."""
    sparsity = peers.tfmot().sparsity.keras
    import tf_keras

    def of(module: Any, model: Any, callbacks: Sequence[Any] = ()) -> Callable[[], None]:
        return stepper(module, model, jit, (28, 28, 1), BATCH_SIZE, callbacks=callbacks)

    built = {"plain": of(keras, small(keras))}
    for frequency in (PERIOD, 1):
        model = tfc.prune(small(keras), tfc.ConstantSparsity(0.8, frequency=frequency))
        built[f"tfcompress, frequency {frequency}"] = of(keras, model)
    built["tf_keras plain"] = of(tf_keras, small(tf_keras))
    for frequency in (PERIOD, 1):
        schedule = sparsity.ConstantSparsity(0.8, 0, frequency=frequency)
        model = sparsity.prune_low_magnitude(small(tf_keras), pruning_schedule=schedule)
        built[f"tfmot, frequency {frequency}"] = of(tf_keras, model, [sparsity.UpdatePruningStep()])
    return built


def training(setting: Setting) -> None:
    """Measure, print and save."""
    rows: list[dict[str, Any]] = []
    for jit in (False, True):
        taken = each_step(beside_tfmot(jit), setting.rounds, PERIOD)
        made = compared(taken, lambda way: "tf_keras plain" if way.startswith(("tf_keras", "tfmot")) else "plain")
        rows += [{"XLA": "on" if jit else "off", **row} for row in made]
    show(f"Time per training step, batch {BATCH_SIZE}", rows)
    save("training", rows, setting.command)


def mask(setting: Setting) -> None:
    """Measure, each in a process of its own; print and save."""
    rows = []
    for name in GRANULARITIES:
        found = [in_a_process("pruning", "--here=masks", name) for _ in range(PROCESSES)]
        exact = in_a_process("pruning", "--here=masks", name, environment=AT_ONCE)
        seconds = [second for one in found for second in one["seconds"]]
        first = [one["first"] for one in found]
        rows.append(
            {
                "granularity": name,
                "scope": exact["scope"],
                "weights": f"{exact['weights']:,}",
                "weights' MB": round(exact["weights"] * 4 / 2**20),
                "s": f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})",
                "more MB": round(exact["later"]),
                "pool grows by MB": f"{statistics.median(first):.0f} ({min(first):.0f} to {max(first):.0f})",
            }
        )
    show("One computation of all masks", rows)
    save("pruning_mask", rows, setting.command)


def masks(name: str) -> dict[str, Any]:
    """Return the row of one granularity."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(width, use_bias=False) for width in WIDTHS[1:]]
    model = keras.Sequential([keras.Input((WIDTHS[0],)), *layers])
    granularity = {"block 16 x 1": tfc.Block(16, 1), "2 of 4": tfc.NofM(2, 4)}.get(name, name)
    scope = "layer" if name == "2 of 4" else "global"
    pruned = tfc.prune(model, tfc.PruneConfig(0.5, granularity=granularity, scope=scope))
    wrappers = wrapped_layers(pruned)
    weights = sum(layer.layer.kernel.shape[0] * layer.layer.kernel.shape[1] for layer in wrappers)

    @tf.function
    def update() -> None:
        done: set[Any] = set()
        for wrapper in wrappers:
            wrapper.step.assign(0)
            wrapper.update(wrappers, done)

    update.get_concrete_function()
    with Memory() as first:
        update()
    with Memory() as later:
        taken = each_step({name: update}, 9, 1)[name]
    seconds = (taken[..., 0].ravel() / 1e3).tolist()
    return {"scope": scope, "weights": weights, "seconds": seconds, "first": first.more, "later": later.more}


if __name__ == "__main__":
    run_parts(
        "pruning",
        __doc__,
        {"mask": mask, "step": step, "training": training, "speed": speed, "mnist": mnist, "cifar10": cifar10},
        rounds=31,
        needed={"mnist": ("mnist.npz",), "cifar10": ("cifar10_jpeg.npz", "resnet8_cifar10_jpeg.keras")},
        apart={"masks": masks},
    )
