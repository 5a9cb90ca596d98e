"""How every benchmark measures, apart from what else runs, and how it shows and keeps its figures."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from absl import logging
from rich import box
from rich.console import Console
from rich.table import Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "results"

AT_ONCE = {"TF_ENABLE_ONEDNN_OPTS": "0", "MALLOC_MMAP_THRESHOLD_": "1000000"}
"""With these what is freed goes back to the system at once; else TensorFlow keeps it in a pool that grows in leaps."""

TURN = 10
"""Steps of one model before it is the next one's turn."""

Key = TypeVar("Key", bound=Hashable)


WIDTH_IN_A_PIPE = 180
"""Columns of a table where no terminal says how many there are: rich would take 80 and cut every cell."""


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table."""
    table = Table(title=title, box=box.SIMPLE)
    for heading in rows[0]:
        table.add_column(heading, justify="left" if isinstance(rows[0][heading], str) else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else WIDTH_IN_A_PIPE).print(table)


def save(name: str, rows: list[dict[str, Any]], command: str) -> None:
    """Write rows, the command that made them and the machine to `benchmarks/results/NAME.json`."""
    from tfcompress.core.atomic_files import write_text
    from tfcompress.evaluation.compare import environment

    FOLDER.mkdir(exist_ok=True)
    content = {"command": command, "environment": environment(), "rows": rows}
    write_text(FOLDER / f"{name}.json", json.dumps(content, indent=1) + "\n")


def rows_of(name: str) -> list[dict[str, Any]]:
    """Return the rows of one benchmark."""
    rows: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text())["rows"]
    return rows


def mean_and_each(values: Sequence[float]) -> str:
    """Return the mean of the seeds, and each in brackets if there are several.

    >>> mean_and_each([1, 2]), mean_and_each([1])
    ('1.50 (1.00, 2.00)', '1.00')
    """
    each = f" ({', '.join(f'{value:.2f}' for value in values)})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{each}"


def cached(path: pathlib.Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return figures from a file, where a job that was interrupted left them; else make, print and keep them."""
    if path.exists():
        known: dict[str, Any] = json.loads(path.read_text())
        return known
    from tfcompress.core.atomic_files import write_text

    figures = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(figures))
    print(path.stem, figures, flush=True)
    return figures


def collected(name: str, command: str, key: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a row of `benchmarks/results/NAME.json`, made and added to it if it isn't there.

    So a benchmark of many hours can be cut short and goes on another day; delete the file to begin anew.

    Args:
        name: Of the file.
        command: That makes it.
        key: What the row begins with, and is known by.
        make: Returns the figures that follow.
    """

    def known() -> list[dict[str, Any]]:
        return rows_of(name) if (FOLDER / f"{name}.json").exists() else []

    for row in known():
        if key.items() <= row.items():
            return row
    row = {**key, **make()}
    save(name, [*known(), row], command)  # Read anew: another job may have added to it.
    print(row, flush=True)
    return row


def in_a_process(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, timeout: float | None = None
) -> Any:
    """Return what `python -m benchmarks.MODULE ARGUMENTS` prints last, as JSON; end with its errors if it fails."""
    program = f"{module} {' '.join(arguments)}"
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"{program} took over {timeout} s")
    if done.returncode:
        sys.exit(f"{program} failed with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def in_processes(asked: Mapping[Key, Sequence[str]], rounds: int) -> dict[Key, list[Any]]:
    """Return what each of some commands prints in each round, as `in_a_process`; every other round goes backwards.

    Args:
        asked: The module and the arguments, by what the command is known by.
        rounds: How many.
    """
    taken: dict[Key, list[Any]] = {key: [] for key in asked}
    for turn in range(rounds):
        for key in asked if turn % 2 == 0 else reversed(list(asked)):
            taken[key].append(in_a_process(*asked[key]))
    return taken


def clocks() -> tuple[float, float]:
    """Return the seconds of the clock, and those of all processors for this process and the children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime


def peak_mb() -> float:
    """Return the most that this process, or the largest of its children, ever held."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


class Memory:
    """The most memory that the process has while this is entered, in MB: `most`, and `more` than it had before."""

    def __enter__(self) -> Memory:
        self._before = self.most = _resident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.more = self.most - self._before

    def _watch(self) -> None:
        while not self._done.wait(2e-4):
            self.most = max(self.most, _resident())


def _resident() -> float:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def each_step(
    built: Mapping[Key, Callable[[], object]], rounds: int, period: int | None = None, *, milliseconds: float = 60.0
) -> dict[Key, np.ndarray]:
    """Return the milliseconds of every single step, on the clock and of all processors: `(rounds, period, 2)`.

    What else a machine does in a second or two falls on all alike where they take turns of a few steps.

    Args:
        built: What is timed, a function without arguments, by its name; each is called some times before.
        rounds: In each, each does `period` steps, in turns of at most `TURN`; every other time backwards.
        period: After so many steps it does the same again, such as computing masks; more than `TURN` of them are a
            multiple of it. `None`: all steps are alike, and a round is one turn, as long as `milliseconds` or 3 steps.
        milliseconds: Of a turn, if there is no period.
    """
    lengths = {}
    for way, step in built.items():
        for _ in range(4):
            begun, _ = clocks()
            step()
        lengths[way] = period or max(3, round(milliseconds / 1e3 / (clocks()[0] - begun)))
    turns = max(1, (period or 1) // TURN)
    taken: dict[Key, list[tuple[float, float]]] = {way: [] for way in built}
    for turn in range(rounds * turns):
        order = list(built.items())
        for way, step in order if turn % 2 == 0 else reversed(order):
            for _ in range(lengths[way] // turns):
                begun, used = clocks()
                step()
                ended, busy = clocks()
                taken[way].append(((ended - begun) * 1e3, (busy - used) * 1e3))
    return {way: np.array(times).reshape(rounds, lengths[way], 2) for way, times in taken.items()}


def per_round(taken: Mapping[Key, np.ndarray]) -> dict[Key, np.ndarray]:
    """Return the median milliseconds of all processors of what `each_step` timed, in each round.

    The clock's would be that of other programs on the machine, too.
    """
    return {way: np.median(times[..., 1], axis=1) for way, times in taken.items()}


def milliseconds(times: np.ndarray) -> dict[str, str]:
    """Return the columns of a time: median, and the middle half of the rounds."""
    low, median, high = np.percentile(times, [25, 50, 75])
    digits = 4 if median < 1 else 2
    return {"ms": f"{median:.{digits}f}", "middle half": f"{low:.{digits}f} to {high:.{digits}f}"}


def compared(taken: dict[str, np.ndarray], base: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return a row per model: the mean over a period of each step's median over the rounds, and ratios to a base.

    A step that was held up by something else in one round counts as little as it should; one that takes longer in
    every round, because masks are computed in it, counts as one of the period.

    Args:
        taken: What `each_step` returns.
        base: `base(name)` is the name of the model to compare with.
    """
    means = {way: np.median(times, axis=0).mean(axis=0) for way, times in taken.items()}
    rows = []
    for way, times in taken.items():
        ratio = means[way] / means[base(way)]
        by_round = np.median(times[..., 0], axis=1) / np.median(taken[base(way)][..., 0], axis=1)
        rows.append(
            {
                "model": way,
                "ms per step": f"{means[way][0]:.2f}",
                "longest": f"{np.median(times[..., 0], axis=0).max():.2f}",
                "ratio to plain": f"{ratio[0]:.3f}",
                "middle half": "{:.3f} to {:.3f}".format(*np.percentile(by_round, [25, 75])),
                "processor ratio": f"{ratio[1]:.3f}",
            }
        )
    return rows


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a part of a benchmark is told.

    Attributes:
        data: The folder with data sets and ResNet-8.
        cache: The folder for what is made once, and for the files.
        rounds: Of timing.
        only: What is measured, by a part of its name; nothing: all.
        command: That makes the part's figures.
    """

    data: pathlib.Path
    cache: pathlib.Path
    rounds: int
    only: tuple[str, ...]
    command: str

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Return those of some names that are to be measured."""
        names = list(names)
        for part in self.only:
            if not any(part in name for name in names):
                sys.exit(f"Expected --only to hold parts of {', '.join(names)}. Received: {part!r}.")
        return [name for name in names if not self.only or any(part in name for part in self.only)]


def run_parts(
    name: str,
    about: str | None,
    parts: Mapping[str, Callable[[Setting], None]],
    *,
    rounds: int | None = None,
    needed: Mapping[str, Sequence[str]] = types.MappingProxyType({}),
    apart: Mapping[str, Callable[..., Any]] = types.MappingProxyType({}),
    by_hand: Sequence[str] = (),
    selective: Sequence[str] = (),
) -> None:
    """Run the parts of a benchmark that the command line asks for.

    Args:
        name: Of its module.
        about: The help.
        parts: What measures, prints and saves, by its name.
        rounds: Of timing, unless the command line says; `None`: nothing is timed in rounds.
        needed: {part: files in the folder of data without which it can't be run}.
        apart: What a part calls in a process of its own, by its name: `--here=NAME ARGUMENTS`.
        by_hand: Parts that are run only where they are named.
        selective: Parts that take --only.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=parts, help="may be given several times; else all")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("../shared/data"), help="folder of data")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("/tmp/tfcompress-benchmarks"))
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"of timing, 3 at least; else {rounds}")
    if selective:
        parser.add_argument("--only", default="", help="parts of the names of what is measured, with commas between")
    if apart:
        parser.add_argument("--here", choices=apart, help="for the program itself: in this process, as JSON")
        parser.add_argument("arguments", nargs="*", help="of --here")
    parser.set_defaults(rounds=rounds or 3, only="", here=None)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(apart[given.here](*given.arguments)))
        return
    if given.rounds < 3:
        parser.error(f"Expected --rounds of 3 at least. Received: {given.rounds}.")
    logging.set_verbosity(logging.ERROR)
    chosen = given.part or [part for part in parts if part not in by_hand]
    only = tuple(filter(None, given.only.split(",")))
    if only and not set(chosen) <= set(selective):
        parser.error(f"Expected --only with --part={' or '.join(selective)}. Received: --part={','.join(chosen)}.")
    for part in chosen:
        for file in needed.get(part, ()):
            if not (given.data / file).exists():
                parser.error(f"Expected --data to be a folder with {file}. Received: {str(given.data)!r}.")
    for part in chosen:
        command = f"python -m benchmarks.{name} --part={part}"
        parts[part](Setting(given.data, given.cache, given.rounds, only, command))
