"""Several models side by side: what each weighs, how good and how fast it is."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from tfcompress.core.arguments import check_flag, short
from tfcompress.core.atomic_files import check_target, write_text
from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.core.out_of_memory import says_memory
from tfcompress.evaluation import timing as timing_module
from tfcompress.evaluation.evaluate import both, check_options, check_targets, evaluate_predictor
from tfcompress.evaluation.metrics import Metrics
from tfcompress.evaluation.predictor import DEFAULT_BATCH_SIZE, Saved, Source, name_arrays, open_predictor
from tfcompress.evaluation.size import Size, measure_size
from tfcompress.evaluation.timing import Timing
from tfcompress.reports.json_document import Document
from tfcompress.reports.progress import progress
from tfcompress.reports.tables import number, plain, significant, to_text

MANY_ZEROS = 0.3
"""Share of zeros among the numbers of a file of which a reader may think that they make it faster."""

RUNTIMES = {"keras": "Keras", "tflite": "LiteRT", "onnx": "ONNX Runtime"}
"""What runs a candidate of a format."""

PACKAGES = ("tfcompress", "keras", "tensorflow", "ai-edge-litert", "onnxruntime", "scikit-learn", "numpy")


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """One row of a report.

    Attributes:
        name: as given to `tfc.compare`.
        format: "keras", "tflite" or "onnx".
        size: bytes, parameters, non-zeros.
        metrics: as of `tfc.evaluate`.
        timing: as of `tfc.benchmark`; None with latency=False.
        is_file: whether it was given as a file, whose size is meant; that of a model in memory is the size of the
            `.keras` file without the optimizer's state.
    """

    name: str
    format: str
    size: Size
    metrics: Metrics
    timing: Timing | None
    is_file: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class Report(Document):
    """What `tfc.compare` found.

    Attributes:
        candidates: one `Candidate` per model, in the order given.
        baseline: the name of the one that the others are compared with.
        environment: versions, processor, threads and time of the run.
    """

    candidates: tuple[Candidate, ...]
    baseline: str
    environment: Mapping[str, str]

    def __getitem__(self, name: str) -> Candidate:
        """Return the candidate called `name`."""
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        raise KeyError(f"Expected one of {[candidate.name for candidate in self.candidates]}. Received: {name!r}.")

    def differences(self, name: str) -> dict[str, float]:
        """Return how much better or worse a candidate is than the baseline.

        Args:
            name: of the candidate.

        Returns:
            {output name: difference}, "" for the only output: of the accuracy in percentage points, of the
            MSE in its own unit.
        """
        ours, theirs = self[name].metrics.scores, self[self.baseline].metrics.scores
        factors = {"accuracy": 100.0, "mse": 1.0}
        return {key: factors[kind] * (value - theirs[key][1]) for key, (kind, value) in ours.items() if key in theirs}

    def speedup(self, name: str) -> float | None:
        """Return the baseline's median latency over the candidate's; None where it wasn't timed."""
        ours, theirs = self[name].timing, self[self.baseline].timing
        return theirs.median_ms / ours.median_ms if ours and theirs and ours.median_ms else None

    def shrink(self, name: str) -> float:
        """Return the baseline's file bytes over the candidate's."""
        return self[self.baseline].size.file_bytes / max(1, self[name].size.file_bytes)

    def headings(self) -> list[str]:
        """Return the titles of the table's columns."""
        titles = ["model", "file kB", "zip kB", "parameters", "non-zero"]
        for output, (kind, _) in self.candidates[0].metrics.scores.items():
            titles += [f"{output} {kind}".strip(), "Δ points" if kind == "accuracy" else "Δ MSE"]
        if self.candidates[0].timing:
            titles += ["ms", "IQR", "speed-up"]
        return titles

    def rows(self) -> list[list[str]]:
        """Return the table's cells, a list per candidate."""
        table = []
        for candidate in self.candidates:
            size = candidate.size
            cells = [
                candidate.name,
                f"{size.file_bytes / 1000:,.1f}",
                f"{size.zipped_bytes / 1000:,.1f}",
                f"{size.parameters:,}",
                f"{100 * (1 - size.sparsity):.1f} %",
            ]
            differences = self.differences(candidate.name)
            for output, (kind, value) in candidate.metrics.scores.items():
                difference = differences.get(output)
                if kind == "accuracy":
                    cells += [f"{100 * value:.2f} %", number(difference, 2, sign=True)]
                else:
                    cells += [significant(value), f"{difference:+.3g}" if difference is not None else "-"]
            if candidate.timing:
                speedup = self.speedup(candidate.name)
                cells += [
                    number(candidate.timing.median_ms),
                    number(candidate.timing.iqr_ms),
                    f"{speedup:.2f}x" if speedup else "-",
                ]
            table.append(cells)
        return table

    def table(self, width: int = 100) -> str:
        """Return one table, a row per model, as text of at most `width` columns."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        titles = self.headings()
        outputs = len(self.candidates[0].metrics.scores)
        # Two columns of figures per output: of many outputs each has a line of its own below.
        wide = outputs > 1
        keep = [i for i in range(len(titles)) if not wide or not 5 <= i < 5 + 2 * outputs]
        main = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for i in keep:
            fold: dict[str, Any] = {"overflow": "fold"} if i == 0 else {"justify": "right", "no_wrap": True}
            main.add_column(titles[i], **fold)
        for cells in self.rows():
            main.add_row(*(Text(cells[i]) for i in keep))
        parts: list[Any] = [main]
        if wide:
            scores = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for title in ("model", "output", "metric", "value", "difference"):
                scores.add_column(title, justify="right" if title in ("value", "difference") else "left")
            for cells in self.rows():
                for place, (output, (kind, _)) in enumerate(self[cells[0]].metrics.scores.items()):
                    value, difference = cells[5 + 2 * place : 7 + 2 * place]
                    scores.add_row(*(Text(cell) for cell in (cells[0], output, kind, value, difference)))
            parts.append(scores)
        parts += [self.caption(), *self.notes()]
        return to_text(*parts, width=width)

    def caption(self) -> str:
        """Return the line below the table: the baseline, the samples, how latency was taken."""
        first = self.candidates[0]
        text = f"Baseline: {self.baseline}. {first.metrics.samples:,} samples. kB: 1,000 bytes. zip: deflate 9."
        if not all(candidate.is_file for candidate in self.candidates):
            text += " Models in memory: as a .keras file without the optimizer's state."
        if first.timing:
            threads = next((c.timing.threads for c in self.candidates if c.timing and c.timing.threads), None)
            on = f", {threads} thread{'s' if threads > 1 else ''}" if threads else ""
            keras = any(c.timing and c.timing.threads is None for c in self.candidates)
            text += f" ms: median at batch {first.timing.batch_size}{on}"
            text += " (Keras: the process's threads)." if keras else "."
        return text

    def notes(self) -> list[str]:
        """Return what a reader might take the figures for wrongly: that zeros make a model faster."""
        full = [candidate for candidate in self.candidates if candidate.size.stored_zeros > MANY_ZEROS]
        if not full:
            return []
        names = ", ".join(candidate.name for candidate in full)
        runtimes = ", ".join(sorted({RUNTIMES[candidate.format] for candidate in full}))
        lite = any(candidate.format == "tflite" for candidate in full)
        hint = "; tfc.export(..., sparse=True) leaves them out of a .tflite file" if lite else ""
        return [
            f"Zeros alone don't make a model faster on {runtimes}: they are stored and multiplied like any other "
            f'number, here in {names}. What they save is in the column "zip kB"{hint}.'
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        candidates = []
        for candidate in self.candidates:
            timing = candidate.timing.to_dict() if candidate.timing else None
            candidates.append(
                {
                    "name": candidate.name,
                    "format": candidate.format,
                    **dataclasses.asdict(candidate.size),
                    "sparsity": candidate.size.sparsity,
                    "metrics": candidate.metrics.to_dict(),
                    "differences": self.differences(candidate.name),
                    "shrink": self.shrink(candidate.name),
                    "timing": timing,
                    "speedup": self.speedup(candidate.name),
                }
            )
        document = {"version": 1, "baseline": self.baseline, "environment": dict(self.environment)}
        document["notes"] = self.notes()
        return plain({**document, "candidates": candidates})

    def save(
        self, path: str | os.PathLike[str], *, title: str = "Compression report", overwrite: bool = False
    ) -> pathlib.Path:
        """Write one HTML page to be looked at; it needs no other file and no network.

        Args:
            path: ends in `.html`.
            title: of the page.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path.

        Raises:
            FileExistsError: the file exists, and `overwrite` is False.
            FileNotFoundError: the folder doesn't exist.
            ValueError: another suffix.
        """
        from tfcompress.evaluation.page import page

        target = check_target(path, ".html", overwrite)
        if not isinstance(title, str):
            raise TypeError(f"Expected title to be text. Received: title={short(title)}.")
        return write_text(target, page(self, title))

    def __str__(self) -> str:
        return self.table()


@accepts_old_calls(names={"x": "data"})
@says_memory
def compare(
    models: Mapping[str, Source],
    data: Any,
    y: Any = None,
    *,
    baseline: str | None = None,
    threads: int = 1,
    latency: bool = True,
    task: str | Mapping[str, str] | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    class_names: Sequence[str] | None = None,
    from_logits: bool | None = None,
    runs: int | None = None,
    warmup: int = 10,
    seconds: float = 2.0,
) -> Report:
    """Weigh, judge and time several models on the same data.

    Latency is taken at batch 1 on the first sample of `data`, all models in turns.

    Args:
        models: {name: a Keras model, or the path of a `.tflite`, a `.onnx` or of what `tfc.load` takes}.
        data: inputs, as for `tfc.evaluate`.
        y: what is right, as for `tfc.evaluate`; a list is in the order of the baseline's outputs; None: `data`
            yields it.
        baseline: the name that the others are compared with; None: the first.
        threads: threads of one inference (.tflite, .onnx).
        latency: whether to time.
        task: as for `tfc.evaluate`.
        batch_size: samples at once for the metrics.
        class_names: as for `tfc.evaluate`.
        from_logits: as for `tfc.evaluate`.
        runs: timed runs of each; None: as many as fit into `seconds`.
        warmup: untimed runs of each, before.
        seconds: of timed runs for each.

    Returns:
        `Report`: `print(report)`, `report.to_json(path)`, `report.save("report.html")`,
        `report["name"].metrics`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no model, an unknown baseline, or data that doesn't fit one of the models.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        >>> x, y = np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 1])
        >>> report = compare({"float": model, "same": model}, x, y, latency=False)
        >>> report.differences("same"), report["same"].size.parameters
        ({'': 0.0}, 6)
    """
    if not isinstance(models, Mapping) or not models:
        raise ValueError(f"Expected a dict {{name: model or path}} with an entry. Received: models={short(models)}.")
    named_models = {str(name): model for name, model in models.items()}
    if len(named_models) < len(models):
        raise ValueError(f"Expected names that differ as text, too. Received: {short(list(models))}.")
    baseline = next(iter(named_models)) if baseline is None else baseline
    if not isinstance(baseline, str) or baseline not in named_models:
        raise ValueError(f"Expected baseline to be one of {list(named_models)}. Received: baseline={short(baseline)}.")
    check_flag("latency", latency)
    check_options(task, batch_size, from_logits)
    timing_module.check_options(runs, warmup, 1, seconds)

    x, y = both(data, y)
    predictors, inputs = {}, {}
    for name, model in named_models.items():
        predictors[name] = open_predictor(model, threads)
        inputs[name] = predictors[name].check(x)
    outputs = predictors[baseline].output_names
    if isinstance(y, list | tuple) and len(outputs) > 1:
        y = name_arrays(y, outputs, "output", "y")
    targets = {name: check_targets(predictor, inputs[name], y) for name, predictor in predictors.items()}

    options: dict[str, Any] = {
        "batch_size": batch_size,
        "class_names": class_names,
        "from_logits": from_logits,
    }
    sizes, metrics = {}, {}
    files = {name: model.path if isinstance(model, Saved) else model for name, model in named_models.items()}
    is_file = {name: isinstance(file, str | os.PathLike) for name, file in files.items()}
    with progress(len(predictors) + latency) as advance:
        for name, predictor in predictors.items():
            advance(f"judging {name}")
            sizes[name] = measure_size(predictor, files[name] if is_file[name] else None)
            metrics[name] = evaluate_predictor(predictor, inputs[name], targets[name], task=task, **options)
        timings: dict[str, Timing | None] = dict.fromkeys(predictors)
        if latency:
            advance("timing")
            batches = [timing_module.one_batch(p, inputs[name], 1) for name, p in predictors.items()]
            taken = timing_module.time_predictors(
                list(predictors.values()), batches, runs=runs, warmup=warmup, seconds=seconds
            )
            timings.update(zip(predictors, taken, strict=True))
    candidates = tuple(
        Candidate(name, predictor.format, sizes[name], metrics[name], timings[name], is_file[name])
        for name, predictor in predictors.items()
    )
    return Report(candidates, baseline, environment(threads))


def environment(threads: int | None = None) -> dict[str, str]:
    """Return what a figure depends on: versions, processor, cores, threads, time.

    >>> "Python" in environment()
    True
    """
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["system"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    found["processor"] = _processor()
    found["cores"] = str(os.cpu_count())
    if threads is not None:
        found["threads"] = str(threads)
    found["time"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return found


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
