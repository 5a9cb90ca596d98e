"""How long one inference takes: warm, many times, by its median and spread."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tfcompress.core.arguments import check_count, check_number, is_whole
from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.core.out_of_memory import says_memory
from tfcompress.data.named_batches import first_samples
from tfcompress.evaluation.open_predictor import Source, open_predictor
from tfcompress.evaluation.predictor import Arrays, Predictor
from tfcompress.evaluation.random_samples import samples_for
from tfcompress.targets import Target

ROUNDS = 10
LEAST_RUNS = 10
MOST_RUNS = 1_000_000
MOST_SECONDS = 24 * 3600.0


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long one inference takes, in milliseconds.

    Attributes:
        median_ms: half of the runs took longer: the 50th percentile.
        p10_ms: 10th percentile.
        p90_ms: 90th percentile.
        p95_ms: 95th percentile.
        min_ms: the fastest run.
        iqr_ms: spread: 75th minus 25th percentile.
        runs: timed runs.
        warmup: untimed runs before.
        batch_size: samples in one run.
        threads: threads of one run; None where the process decides (Keras).
        runtime: name and version of what ran it.
        rounds_ms: the median of each round; models that are timed together have theirs in turns.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    p95_ms: float
    min_ms: float
    iqr_ms: float
    runs: int
    warmup: int
    batch_size: int
    threads: int | None
    runtime: str
    rounds_ms: tuple[float, ...] = ()

    @property
    def samples_per_second(self) -> float:
        """Samples that one inference after the other works through in a second, by the median."""
        return 1000 * self.batch_size / self.median_ms if self.median_ms else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, and what follows from them, ready for JSON."""
        return {**dataclasses.asdict(self), "samples_per_second": self.samples_per_second}

    def __str__(self) -> str:
        threads = "process threads" if self.threads is None else f"{self.threads} thread{'s' * (self.threads > 1)}"
        return (
            f"{self.median_ms:.3f} ms (p95 {self.p95_ms:.3f}, IQR {self.iqr_ms:.3f}; {self.samples_per_second:,.0f} "
            f"samples/s; {self.runs} runs, batch {self.batch_size}, {threads}, {self.runtime})"
        )


@accepts_old_calls(names={"path_or_model": "model", "x": "data"}, places=((1, "threads", is_whole),))
@says_memory
def benchmark(
    model: Source,
    data: Any = None,
    *,
    threads: int = 1,
    runs: int | None = None,
    warmup: int = 10,
    batch_size: int = 1,
    seconds: float = 2.0,
    runtime: str | None = None,
    target: str | os.PathLike[str] | Target | None = None,
) -> Timing:
    """Time one inference of a model file or a Keras model.

    A `.tflite` or `.onnx` is run by its own runtime, a Keras model by `predict_on_batch`, its compiled
    predict function. Conversion of the input's dtype and the copy of the outputs are timed only where the
    runtime does them.

    Args:
        model: a Keras model, or the path of a `.tflite`, a `.onnx` or of what `tfc.load` takes.
        data: inputs as for `tfc.evaluate`, the first `batch_size` samples are used; None: random ones, of a Keras
            model of what it knows of its inputs; the integer inputs of a file are 0. Free sizes grow until the
            model runs.
        threads: threads of one inference; Keras models run on the process's threads.
        runs: timed runs; None: as many as fit into `seconds`, at least 10.
        warmup: untimed runs before, at least 1.
        batch_size: samples in one run; a file with a fixed batch keeps its own.
        seconds: for the timed runs, where `runs` is None.
        runtime: what runs a file: "litert", "onnxruntime", or "tflm" for TFLite Micro; None: that of its format. TFLite
            Micro's portable kernels on this machine, and the way to their process, say nothing of the time that a
            microcontroller takes.
        target: what a file is for, as in `tfc.export`: it is run in the runtime that proves such files, and refused if
            it has what the target can't do. None: not said.

    Returns:
        `Timing`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a number is out of range, `data` doesn't fit the model, or is needed: the model runs with no size
            that was tried, or is a subclassed one whose inputs are unknown; or the target can't run the file.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> timing = benchmark(model, runs=20)
        >>> timing.runs, timing.median_ms > 0
        (20, True)
    """
    check_options(runs, warmup, batch_size, seconds)
    predictor = open_predictor(model, threads, runtime, target)
    named = None
    if data is not None:
        named = predictor.check(first_samples(data, predictor.input_specs, most=predictor.batch_size or batch_size))
    batch = one_batch(predictor, named, batch_size)
    return time_predictors([predictor], [batch], runs=runs, warmup=warmup, seconds=seconds)[0]


def check_options(runs: int | None, warmup: int, batch_size: int, seconds: float) -> None:
    """Refuse numbers of runs, samples or seconds that make no sense."""
    for name, value in (("runs", 1 if runs is None else runs), ("warmup", warmup)):
        check_count(name, value, most=MOST_RUNS)
    check_count("batch_size", batch_size)
    check_number("seconds", seconds, 0, MOST_SECONDS, above=True)


def one_batch(predictor: Predictor, named: Arrays | None, batch_size: int) -> Arrays:
    """Return one batch: the first samples of `named`, repeated where there are too few, or random ones.

    Raises:
        ValueError: random ones can't be made (see `samples_for`).
    """
    size = predictor.batch_size or batch_size
    if named is not None:
        return {name: np.take(value, np.arange(size) % len(value), axis=0) for name, value in named.items()}
    return samples_for(predictor, size)


def time_predictors(
    predictors: Sequence[Predictor],
    batches: Sequence[Arrays],
    *,
    runs: int | None,
    warmup: int,
    seconds: float,
) -> list[Timing]:
    """Time several models in turns, so that a machine that slows down slows down all of them.

    Args:
        predictors: what is timed.
        batches: one for each.
        runs: of each; None: as many as fit into `seconds`.
        warmup: untimed runs of each, before.
        seconds: for each.

    Returns:
        A `Timing` for each.
    """
    steps = [predictor.step(batch) for predictor, batch in zip(predictors, batches, strict=True)]
    samples = time_in_turns(steps, runs=runs, warmup=warmup, seconds=seconds)
    timings = []
    for predictor, batch, rounds in zip(predictors, batches, samples, strict=True):
        times = np.concatenate(rounds)
        low, quarter, median, three_quarters, high, highest = np.percentile(times, [10, 25, 50, 75, 90, 95])
        timings.append(
            Timing(
                median_ms=float(median),
                p10_ms=float(low),
                p90_ms=float(high),
                p95_ms=float(highest),
                min_ms=float(times.min()),
                iqr_ms=float(three_quarters - quarter),
                runs=len(times),
                warmup=warmup,
                batch_size=len(next(iter(batch.values()))),
                threads=predictor.threads,
                runtime=predictor.runtime,
                rounds_ms=tuple(float(np.median(each)) for each in rounds),
            )
        )
    return timings


def time_in_turns(
    steps: Sequence[Callable[[], object]],
    *,
    runs: int | None = None,
    warmup: int = 10,
    seconds: float = 2.0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> list[list[np.ndarray]]:
    """Time functions in 10 rounds; in each round each has its turn, and every other round goes backwards.

    Args:
        steps: functions without arguments.
        runs: timed runs of each; None: as many as fit into `seconds`, at least 10.
        warmup: untimed runs of each, before.
        seconds: for each.
        clock: returns nanoseconds.

    Returns:
        For each function the times of each round in milliseconds, float64; of fewer runs there are fewer rounds.

    >>> [sum(map(len, rounds)) for rounds in time_in_turns([lambda: None, lambda: None], runs=25)]
    [25, 25]
    """
    times: list[list[list[int]]] = [[] for _ in steps]
    for step in steps:
        for _ in range(warmup):
            step()
    with _no_garbage_collection():
        for turn in range(ROUNDS):
            order = list(enumerate(steps))
            for place, step in order if turn % 2 == 0 else reversed(order):
                share = runs // ROUNDS + (turn < runs % ROUNDS) if runs is not None else LEAST_RUNS // ROUNDS
                if not share:
                    continue
                step()  # the others have emptied the caches
                stop = clock() + (seconds * 1e9 / ROUNDS if runs is None else 0)
                here: list[int] = []
                while len(here) < share or (runs is None and clock() < stop):
                    start = clock()
                    step()
                    here.append(clock() - start)
                times[place].append(here)
    return [[np.asarray(taken, np.float64) / 1e6 for taken in rounds] for rounds in times]


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
