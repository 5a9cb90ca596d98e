"""python -m benchmarks.training [--part=tfmot|pruning|masks|quantization]

What a training step costs, beside the same model without pruning or quantization. Mixed precision has its own:
benchmarks.precision.

    tfmot         masks computed every 100 steps or at every one, beside tfmot's on tf_keras
    pruning       each criterion, granularity and scope
    masks         time and memory of one computation of the masks of 25 million weights, with one common budget
    quantization  int8, beside tfmot's on tf_keras
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import dataclasses
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

import tfcompress as tfc
from benchmarks import peers
from benchmarks.harness import (
    AT_ONCE,
    Memory,
    Setting,
    compared,
    each_step,
    in_a_process,
    run_parts,
    save,
    show,
)
from benchmarks.networks import resnet8, small, stepper
from tfcompress.core.wrapper import wrapped_layers

SHAPES = {"small": (28, 28, 1), "ResNet-8": (32, 32, 3)}
BATCH_SIZE = {"small": 128, "ResNet-8": 64}

PERIOD = 100
"""Masks are computed once in so many steps."""

WIDTHS = (2500, 2500, 2500, 2500, 2500)
PROCESSES = 5
GRANULARITIES = ("element", "block 16 x 1", "2 of 4", "channel")

STEPS = {"small": 20, "ResNet-8": 4}
"""In a round, where all steps are alike."""


def with_masks(jit: bool) -> dict[str, Callable[[], None]]:
    """Return one step function for each model: plain; with masks computed once in `PERIOD` steps, or at every one."""
    sparsity = peers.tfmot().sparsity.keras
    import tf_keras

    def of(module: Any, model: Any, callbacks: Sequence[Any] = ()) -> Callable[[], None]:
        return stepper(module, model, jit, SHAPES["small"], BATCH_SIZE["small"], callbacks=callbacks)

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


def tfmot(setting: Setting) -> None:
    """Measure, print and save."""
    rows: list[dict[str, Any]] = []
    for jit in (False, True):
        taken = each_step(with_masks(jit), setting.rounds, PERIOD)
        made = compared(taken, lambda way: "tf_keras plain" if way.startswith(("tf_keras", "tfmot")) else "plain")
        rows += [{"XLA": "on" if jit else "off", **row} for row in made]
    show("A training step with pruning, beside tfmot's", rows)
    save("training", rows, setting.command)


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


def pruning(setting: Setting) -> None:
    """Measure, print and save."""
    rows: list[dict[str, Any]] = []
    for jit in (False, True):
        models = {name: small(keras) for name in ("plain", "plain, once more")}
        for name, config in configs().items():
            layers = ["second", "hidden"] if isinstance(config.granularity, tfc.Block) else None
            models[name] = tfc.prune(small(keras), config, layers=layers)
        built = {
            name: stepper(keras, model, jit, SHAPES["small"], BATCH_SIZE["small"]) for name, model in models.items()
        }
        taken = each_step(built, setting.rounds, PERIOD)
        rows += [{"XLA": "on" if jit else "off", **row} for row in compared(taken, lambda way: "plain")]
        show("A training step with pruning", rows)
        save("pruning_step", rows, setting.command)


def masks(setting: Setting) -> None:
    """Measure, each in a process of its own; print and save."""
    rows = []
    for name in GRANULARITIES:
        found = [in_a_process("training", "--here=computed", name) for _ in range(PROCESSES)]
        exact = in_a_process("training", "--here=computed", name, environment=AT_ONCE)
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


def computed(name: str) -> dict[str, Any]:
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


def quantized(name: str, jit: bool) -> dict[str, Callable[[], None]]:
    """Return one step function for each model; what can't be compiled is left out, with a message."""
    quantize_model = peers.tfmot().quantization.keras.quantize_model
    import tf_keras

    def network(module: Any) -> Any:
        return small(module) if name == "small" else resnet8(module, rescaling=False)

    models: dict[str, tuple[Any, Callable[[], Any]]] = {
        "plain": (keras, lambda: network(keras)),
        "tfcompress int8": (keras, lambda: tfc.quantize(network(keras), "int8")),
        "tf_keras plain": (tf_keras, lambda: network(tf_keras)),
        "tfmot int8": (tf_keras, lambda: quantize_model(network(tf_keras))),
    }
    built = {}
    for way, (module, make) in models.items():
        step = stepper(module, make(), jit, SHAPES[name], BATCH_SIZE[name])
        try:
            for _ in range(3):
                step()
        except Exception as error:  # tfmot's gradients have no XLA kernels
            print(f"{name}, {way}, XLA {jit}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
            continue
        built[way] = step
    return built


def quantization(setting: Setting) -> None:
    """Measure, print and save."""
    rows = [row for name in STEPS for jit in (False, True) for row in steps(name, jit, setting.rounds)]
    show("A training step with quantization", rows)
    save("quantization_step", rows, setting.command)


def steps(name: str, jit: bool, rounds: int) -> list[dict[str, Any]]:
    """Return a row per model."""

    def base(way: str) -> str:
        return "tf_keras plain" if way in ("tf_keras plain", "tfmot int8") else "plain"

    rows = compared(each_step(quantized(name, jit), rounds, STEPS[name]), base)
    return [{"network": name, "XLA": "on" if jit else "off", **row} for row in rows]


if __name__ == "__main__":
    run_parts(
        "training",
        __doc__,
        {"tfmot": tfmot, "pruning": pruning, "masks": masks, "quantization": quantization},
        rounds=31,
        apart={"computed": computed},
    )
