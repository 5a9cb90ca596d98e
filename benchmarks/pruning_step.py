"""Time of a training step with masks: each criterion, granularity and scope beside the plain step.

The plain network is there twice: what these two differ by is what the figures are good for.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import keras

import tfcompress as tfc
from benchmarks.quantization_networks import small
from benchmarks.results import save, show
from benchmarks.steps import compared_by_step, each_step, stepper

BATCH_SIZE = 128
PERIOD = 100
"""Masks are computed once in so many steps."""


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


def run(folder: pathlib.Path, cache: pathlib.Path, rounds: int, command: str) -> None:
    """Measure, print and save."""
    del folder, cache
    rows: list[dict[str, Any]] = []
    for jit in (False, True):
        built = {
            name: stepper(keras, small(keras), jit, (28, 28, 1), BATCH_SIZE) for name in ("plain", "plain, once more")
        }
        for name, config in configs().items():
            layers = ["second", "hidden"] if isinstance(config.granularity, tfc.Block) else None
            model = tfc.prune(small(keras), config, layers=layers)
            built[name] = stepper(keras, model, jit, (28, 28, 1), BATCH_SIZE)
        taken = each_step(built, rounds, PERIOD)
        rows += [{"XLA": "on" if jit else "off", **row} for row in compared_by_step(taken, lambda way: "plain")]
        show("A training step", rows)
        save("pruning_step", rows, command)
