"""The time that models take."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from absl.flags import FlagValues

from tfcompress.cli.job import Job, Result

if TYPE_CHECKING:
    from tfcompress.evaluation import Timing
    from tfcompress.pipeline.checkpoints import Resume


def benchmark(values: FlagValues, resume: Resume) -> Result:
    """Time models on random inputs, and print a table."""
    import tfcompress as tfc
    from tfcompress.cli import dry_run
    from tfcompress.cli.training_progress import stage_of
    from tfcompress.evaluation.open_predictor import open_predictor

    if values.dry_run:
        opened = {path: open_predictor(path, values.threads, values.runtime, values.target) for path in values.models}
        rows = [{"model": path, "runs in": predictor.runtime} for path, predictor in opened.items()]
        return dry_run.said(f"Would time {len(rows)} models.", rows)
    stage, timings = stage_of(values), {}
    for path in values.models:
        with stage(f"time {pathlib.Path(path).name}"):
            timings[path] = tfc.benchmark(path, **{name: values[name].value for name in HOW})
    print(_table(timings))
    return {"timings": [{"model": path, **timing.to_dict()} for path, timing in timings.items()]}


def _table(timings: dict[str, Timing]) -> str:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from tfcompress.reports.tables import number, to_text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    for title in ("p50 ms", "p95 ms", "IQR ms", "samples/s", "runs", "batch", "threads"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("runtime", overflow="fold")
    for path, timing in timings.items():
        figures = (number(value) for value in (timing.median_ms, timing.p95_ms, timing.iqr_ms))
        threads = "all" if timing.threads is None else str(timing.threads)
        counts = (f"{timing.samples_per_second:,.0f}", f"{timing.runs:,}", str(timing.batch_size), threads)
        table.add_row(*(Text(cell) for cell in (path, *figures, *counts, timing.runtime)))
    return to_text(table, "IQR: 75th minus 25th percentile. Keras models run on all threads of the process.", width=110)


HOW = ("threads", "runs", "batch_size", "runtime", "target")
"""Flags that are arguments of `tfc.benchmark`."""

JOB = Job(
    does="Times models on random inputs, after a warm-up: median, 95th percentile and spread.",
    example="--models=my.tflite,my.onnx --threads=2 --batch_size=8",
    more="A .keras model is run by Keras, a .tflite file by LiteRT, an .onnx file by ONNX Runtime.",
    run=benchmark,
    flags=("models", "overwrite", "threads", "timed_batch_size", "runs", "file_target", "runtime", "dry_run"),
    required=("models",),
)
