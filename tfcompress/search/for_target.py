"""A search for a target: what it can't have is refused before any work."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Collection, Iterable, Sequence

import keras

from tfcompress.core.packages import TFLITE_MICRO
from tfcompress.export.for_target import check_layers
from tfcompress.npu.vela import check_npu
from tfcompress.search.candidates import FORMATS
from tfcompress.search.tries import MICRO, is_micro
from tfcompress.targets import Target, get, names

FILE = "target.yaml"
"""In the folder of a search: a target of the user's own."""


def formats_for(target: Target | None, formats: Sequence[str] | None) -> tuple[str, ...]:
    """Return the formats of a search: those that were asked for, or all that the target has.

    Raises:
        ValueError: The target hasn't one of them.
    """
    if target is None:
        return FORMATS if formats is None else tuple(formats)
    if other := [one for one in formats or () if one not in target.formats]:
        raise ValueError(
            f"Expected formats of target {target.name!r}: {', '.join(target.formats)}. Received: {other[0]!r}. Leave "
            "formats out, or take another target."
        )
    return target.formats if formats is None else tuple(formats)


def check_target(target: Target, model: keras.Model, formats: Iterable[str]) -> None:
    """Refuse a model that can't become integers for a target.

    Raises:
        ImportError: A runtime of the target isn't installed.
        ValueError: The message names the layer, and says what to do.
    """
    if "int8" not in target.numbers:
        raise ValueError(
            f"Expected a target that computes in 8-bit integers, which a search begins with. Received: {target.name!r} "
            f"with numbers={list(target.numbers)}. Take another, or export the model for it."
        )
    for kind in formats:
        check_layers(target, model, kind)


def check_costs(target: Target | None, costs: Collection[str], what: str) -> None:
    """Refuse costs that aren't known of files for a target; `what` is what they were asked for as.

    Raises:
        ImportError: A package that they are found with isn't installed.
        ValueError: Such as that of an NPU that isn't there. The message says what to take.
    """
    micro = is_micro(target)
    accelerated = target is not None and target.accelerator is not None
    if "arena" in costs and not micro and not accelerated:
        given = "no target"
        if target is not None:
            judges = target.runtimes_of("tflite")[-1:]
            given = f"target {target.name!r}{', whose .tflite files are judged in ' + judges[0] if judges else ''}"
        raise ValueError(
            f"Expected {what} without 'arena', the RAM of a microcontroller. Received: 'arena' and {given}. Say "
            "target='microcontroller', whose last runtime is 'tflm', or take 'size'."
        )
    if "latency" in costs and micro and not accelerated:
        assert target is not None
        raise ValueError(
            f"Expected {what} without 'latency' for target {target.name!r}: times of TFLite Micro's portable kernels "
            "on this machine say nothing of a microcontroller's. Received: 'latency'. Take 'arena' or 'size', or the "
            "target of an NPU, such as 'ethos-u55-128', whose time Vela estimates."
        )
    if target is not None and MICRO in target.runtimes:  # it proves what is exported
        TFLITE_MICRO.check()
    if target is not None and target.accelerator is not None:
        check_npu(target.accelerator)


def named_in(folder: pathlib.Path, target: str | os.PathLike[str] | Target) -> str:
    """Return a target as a recipe names it; one that is no name and no path is to be written into a folder."""
    if isinstance(target, str | os.PathLike):
        return os.fspath(target) if target in names() else os.path.abspath(target)
    if target.name in names() and get(target.name) == target:
        return target.name
    return str(folder.absolute() / FILE)


def said_of(target: Target) -> str:
    """Return what a report says of the costs of files for a target."""
    if target.accelerator is not None:
        return f"{target.name}: flash, RAM and ms are the estimates of Arm's compiler Vela; nothing is measured"
    if is_micro(target):
        return f"{target.name}: RAM is the arena that TFLite Micro needs"
    return target.name
