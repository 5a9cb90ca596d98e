"""Arm's compiler for Ethos-U NPUs, Vela, run in a process of its own, and what it prints and writes."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import importlib.metadata
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping

from tfcompress.core.child_process import child_environment
from tfcompress.core.error_messages import told
from tfcompress.core.memory_limits import check_limits
from tfcompress.core.packages import VELA
from tfcompress.export.artifact import Artifact
from tfcompress.export.plan.file_check import layers_in
from tfcompress.export.tflite.flatbuffer import File
from tfcompress.npu.accelerators import Accelerator, accelerator_of
from tfcompress.npu.estimate import NPUEstimate, NPUOperator
from tfcompress.runtime.runner import format_of

SECONDS = 600
"""After which the compiler is taken to have stopped working."""

USUAL = "ethos-u55-128"
"""Where no accelerator is named."""

MOST_KEPT = 256
"""Estimates that are kept."""

KIBI = 1024
_REASON = re.compile(r"operator: \w+, ofm: '([^']*)'\s*\nReason: (.+(?:\n(?!Warning|\n|#|Network).+)*)")


def estimate_npu(
    path: str | os.PathLike[str] | Artifact,
    accelerator: str | None = None,
    *,
    system: str | None = None,
    memory: str | None = None,
    ram: int | None = None,
    flash: int | None = None,
) -> NPUEstimate:
    """Say what a `.tflite` file needs on an Arm Ethos-U: time, flash, SRAM, and what the NPU leaves to the processor.

    These are the estimates of Arm's compiler Vela (`pip install 'tfcompress[mcu]'`), which runs here; nothing is
    measured. The NPU computes integers alone: quantize the model, and export it with `inference_io="int8"`.

    Args:
        path: the file, or what `tfcompress.export` returned, which knows the names of its layers.
        accelerator: the NPU, such as "ethos-u55-128", "ethos-u65-256" or "ethos-u85-512"; None: that of the target
            that the artifact was exported for, else "ethos-u55-128".
        system: clock and memories, one of Vela's system configurations; None: "Ethos_U55_High_End_Embedded",
            "Ethos_U65_Client_Server" or "Ethos_U85_SYS_DRAM_Mid".
        memory: what lies where, one of Vela's memory modes; None: "Shared_Sram" for an Ethos-U55,
            "Dedicated_Sram_384KB" for others.
        ram: bytes of SRAM that it may take; None: any.
        flash: bytes of flash that it may take; None: any.

    Returns:
        The estimate; `print` shows it, `.on_processor` has what the NPU doesn't compute, and why, `.fits` whether it
        keeps within the limits. It is kept: for the same file Vela runs once.

    Raises:
        ImportError: Vela isn't installed.
        ValueError: it is no `.tflite` file, there is no such NPU, or Vela can't compile it.

    Example:
        artifact = tfcompress.export(quantized, "model.tflite", target="ethos-u55-128")
        print(tfcompress.estimate_npu(artifact))
    """
    check_limits(ram, flash)
    chosen = accelerator_of(accelerator or getattr(path, "accelerator", None) or USUAL)
    chosen = Accelerator(chosen.name, system or chosen.system, memory or chosen.memory)
    file = pathlib.Path(path.path if isinstance(path, Artifact) else path)
    if format_of(file) != "tflite":
        raise ValueError(f"Expected a .tflite file, which NPUs take. Received: {str(file)!r}. Export to .tflite.")
    if not file.is_file():
        raise FileNotFoundError(f"Expected a .tflite file. Received: {str(file)!r}, which isn't there.")
    VELA.check()
    numbered, known = _numbered(file, path if isinstance(path, Artifact) else None)
    key = hashlib.sha256(file.read_bytes() + repr((sorted(known.items()), chosen)).encode()).hexdigest()
    if key not in _KEPT:
        if len(_KEPT) >= MOST_KEPT:
            _KEPT.pop(next(iter(_KEPT)))
        _KEPT[key] = _estimated(file, numbered, known, chosen)
    return dataclasses.replace(_KEPT[key], path=file, ram_limit=ram, flash_limit=flash)


def check_npu(accelerator: str) -> None:
    """Refuse, before any work, an NPU of which nothing can be said.

    Raises:
        ImportError: Vela isn't installed.
        ValueError: there is no such NPU.
    """
    accelerator_of(accelerator)
    VELA.check()


_KEPT: dict[str, NPUEstimate] = {}
"""What was found of files, by what they hold, the oldest first."""


def _estimated(file: pathlib.Path, numbered: bytes, known: Mapping[str, str], chosen: Accelerator) -> NPUEstimate:
    with tempfile.TemporaryDirectory(prefix="tfcompress-") as folder:
        source = pathlib.Path(folder, "model.tflite")
        source.write_bytes(numbered)
        printed = _compiled(file, source, chosen)
        (summary,) = _rows(next(pathlib.Path(folder).glob("model_summary_*.csv")))
        rows = _rows(pathlib.Path(folder, "model_per-layer.csv"))
    reasons = {name: _said(text, known) for name, text in _REASON.findall(printed)}
    return _estimate(file, chosen, summary, _operators(rows, reasons, known))


def _numbered(file: pathlib.Path, artifact: Artifact | None) -> tuple[bytes, dict[str, str]]:
    """Return a file whose tensors are called by their places, and {such a name: layer or tensor, or ""}.

    Vela says of operators what they make.
    """
    try:
        content = File(file.read_bytes())
    except (struct.error, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"Expected a .tflite file. Received: {str(file)!r}, which can't be read: {told(error)}"
        ) from error
    graph = content.graphs[0]
    names = [graph.tensor_name(place) for place in range(len(graph.tensors))]
    if artifact is not None and len(artifact.tensor_names) == len(names):
        names = list(artifact.tensor_names)
    layers = frozenset() if artifact is None or artifact.plan is None else artifact.plan.layers
    known = {}
    for place, tensor in enumerate(graph.tensors):
        tensor.name = f"t{place}".encode()
        known[f"t{place}"] = next(layers_in([names[place]], layers), names[place])
    return content.to_bytes(), known


def _said(reason: str, known: Mapping[str, str]) -> str:
    """Return a reason in one line, with tensors as the file calls them."""
    text = " ".join(reason.split())
    named = re.sub(r" \((t\d+)(?:_act)?\)", lambda found: f" ({name})" if (name := known.get(found[1])) else "", text)
    return named.split(" Feature-map")[0]


def _compiled(file: pathlib.Path, source: pathlib.Path, chosen: Accelerator) -> str:
    """Let Vela compile a file, in its folder; return what it printed."""
    options = {
        "--accelerator-config": chosen.name,
        "--config": "Arm/vela.ini",
        "--system-config": chosen.system,
        "--memory-mode": chosen.memory,
        "--output-dir": str(source.parent),
    }
    flags = [word for pair in options.items() for word in pair]
    command = [sys.executable, "-m", "ethosu.vela", str(source), *flags]
    try:
        done = subprocess.run(
            [*command, "--verbose-performance", "--show-cpu-operations"],
            capture_output=True,
            text=True,
            cwd=source.parent,
            timeout=SECONDS,
            env=child_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(
            f"Expected a file that Vela can compile. Received: {str(file)!r}, with which it wasn't done in "
            f"{SECONDS} seconds."
        ) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"it ended with {done.returncode}").splitlines()[-1]
        raise ValueError(
            f"Expected a file that Vela can compile for {chosen.name} ({chosen.system}, {chosen.memory}). Received: "
            f"{str(file)!r}, on which it failed: {told(RuntimeError(said))}"
        )
    return done.stdout


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _operators(
    rows: Iterable[Mapping[str, str]], reasons: Mapping[str, str], known: Mapping[str, str]
) -> tuple[NPUOperator, ...]:
    """Return the file's operators: one may be several of the NPU's, the last of which makes its tensor."""
    found: list[NPUOperator] = []
    cycles = 0
    for row in rows:
        cycles += round(float(row["Op Cycles"]))
        name = row["Name"]
        if name in known:
            on_npu = row["Target"] == "NPU"
            reason = "" if on_npu else reasons.get(name, "")
            shown = known[name] or f"operator {len(found)}"
            found.append(NPUOperator(row["Original Operator"], shown, on_npu, cycles, reason))
            cycles = 0
    return tuple(found)


def _estimate(
    file: pathlib.Path, chosen: Accelerator, summary: Mapping[str, str], operators: tuple[NPUOperator, ...]
) -> NPUEstimate:
    memories = ("on_chip_flash", "off_chip_flash", "dram")
    return NPUEstimate(
        path=file,
        accelerator=chosen.name,
        system=chosen.system,
        memory=chosen.memory,
        compiler=f"Vela {importlib.metadata.version('ethos-u-vela')}",
        milliseconds=1e3 * float(summary["inference_time"]),
        cycles=round(float(summary["cycles_total"])),
        clock_hz=float(summary["core_clock"]),
        flash=round(KIBI * sum(float(summary[f"{name}_memory_used"]) for name in memories)),
        sram=round(KIBI * float(summary["sram_memory_used"])),
        operators=operators,
    )
