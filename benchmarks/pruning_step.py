"""Time of a training step with masks: each criterion, granularity and scope beside the plain step."""

from __future__ import annotations

import pathlib
from typing import Any

import keras

import tfcompress as tfc
from benchmarks.quantization_networks import small
from benchmarks.results import save, show
from benchmarks.steps import stepper, timed

BATCH_SIZE = 128
STEPS = 100
"""One computation of the masks falls into each turn."""


def configs() -> dict[str, tfc.PruneConfig]:
    """Return what is measured, by its name."""
    often = tfc.ConstantSparsity(0.8, begin_step=1, frequency=100)
    return {
        "magnitude": tfc.PruneConfig(often),
        "magnitude, global": tfc.PruneConfig(often, scope="global"),
        "magnitude, multiplications": tfc.PruneConfig(often, scope="flops"),
        "threshold": tfc.PruneConfig(often, criterion="threshold", threshold=0.05),
        "random": tfc.PruneConfig(often, criterion="random"),
        "blocks of 16 x 1": tfc.PruneConfig(often, granularity=tfc.Block(16, 1)),
        "2 of 4": tfc.PruneConfig(tfc.ConstantSparsity(0.5, begin_step=1, frequency=100), granularity=tfc.NofM(2, 4)),
        "channels": tfc.PruneConfig(often, granularity="channel"),
        "gradient": tfc.PruneConfig(often, criterion="gradient"),
        "movement": tfc.PruneConfig(often, criterion="movement"),
        "regrowth": tfc.PruneConfig(tfc.Regrowth(0.8, begin_step=1, end_step=10**8, frequency=100)),
    }


def run(folder: pathlib.Path, cache: pathlib.Path, rounds: int, command: str) -> None:
    """Measure, print and save."""
    del folder, cache
    rows: list[dict[str, Any]] = []
    for jit in (False, True):
        built = {"plain": stepper(keras, small(keras), jit, (28, 28, 1), BATCH_SIZE)}
        for name, config in configs().items():
            layers = ["second", "hidden"] if isinstance(config.granularity, tfc.Block) else None
            model = tfc.prune(small(keras), config, layers)
            built[name] = stepper(keras, model, jit, (28, 28, 1), BATCH_SIZE)
        for step in built.values():
            for _ in range(3):
                step()
        rows += [{"XLA": "on" if jit else "off", **row} for row in timed(built, rounds, STEPS, lambda way: "plain")]
        show("A training step", rows)
        save("pruning_step", rows, command)
