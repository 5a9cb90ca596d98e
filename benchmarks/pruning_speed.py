"""Time of one inference on one thread after half of all channels have been taken out, beside the whole network."""

from __future__ import annotations

import gc
import pathlib
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks.quantization_files import File, Folder, in_turns, milliseconds, runner
from benchmarks.quantization_networks import large
from benchmarks.results import save, show
from tfcompress.channels.costs import total_multiply_adds as total

NETWORKS = ("MobileNetV2", "ResNet50")
IMAGES = 8
SHARE = 0.5


def run(folder: pathlib.Path, cache: pathlib.Path, rounds: int, command: str) -> None:
    """Measure, print and save."""
    del folder
    rows = []
    for name in NETWORKS:
        rows += measure(name, Folder(cache / f"pruned_{name}"), rounds)
        show(f"One inference, one thread, {name}", rows[-8:])
        save("pruning_speed", rows, command)


def measure(name: str, target: Folder, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each file; ratios are taken round by round."""
    x = np.random.default_rng(0).uniform(-1, 1, (IMAGES, 224, 224, 3)).astype(np.float32)
    whole = tfc.strip(large(name))
    small = tfc.shrink(tfc.prune_once(whole, SHARE, granularity="channel"))
    files: list[tuple[str, str, float, File]] = []
    for title, model in (("whole", whole), (f"{SHARE:.0%} of the channels less", small)):
        share = total(model) / total(whole)
        for numbers, made in (("float32", model), ("int8", tfc.quantize(model, "int8", x, batch_size=4))):
            way = f"{numbers} {'whole' if model is whole else 'small'}"
            files += [(title, numbers, share, file) for file in target.ours(way, made, verify=False)]
            gc.collect()
        keras.backend.clear_session()
    times = in_turns([runner(file.path, x) for *_, file in files], rounds=rounds, milliseconds=100)
    rows = []
    for (title, numbers, share, file), taken in zip(files, times, strict=True):
        (before,) = (
            other
            for (base, kind, _, one), other in zip(files, times, strict=True)
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
                **milliseconds(taken),
                "faster": f"{np.median(before / taken):.2f}x",
            }
        )
    return rows
