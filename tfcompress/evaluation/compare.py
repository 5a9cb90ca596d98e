"""Several models side by side: size, quality and latency of each."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from tfcompress.core.arguments import check_flag, short
from tfcompress.core.memory_limits import check_limits
from tfcompress.core.names import nearest_names
from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.core.out_of_memory import says_memory
from tfcompress.core.progress import progress
from tfcompress.evaluation import timing as timing_module
from tfcompress.evaluation.comparison import Candidate
from tfcompress.evaluation.device_needs import needs_of
from tfcompress.evaluation.evaluate import Evaluation, batches_of, check_options
from tfcompress.evaluation.layer_changes import SAMPLES
from tfcompress.evaluation.layer_source import LayerSource
from tfcompress.evaluation.open_predictor import KerasPredictor, Saved, Source, open_predictor
from tfcompress.evaluation.page.assemble import Scan
from tfcompress.evaluation.predictor import DEFAULT_BATCH_SIZE, Arrays, Predictor, name_arrays
from tfcompress.evaluation.report import Report
from tfcompress.evaluation.scoring import ClassNames, names_by_output
from tfcompress.evaluation.size import measure_size
from tfcompress.evaluation.timing import Timing
from tfcompress.export.artifact import Artifact
from tfcompress.export.file_arithmetic import read_arithmetic
from tfcompress.export.plan.file_operators import Operators
from tfcompress.runtime.opening import check_runtime
from tfcompress.targets import Target
from tfcompress.targets import get as get_target

TargetName: TypeAlias = "str | os.PathLike[str] | Target"

PACKAGES = ("tfcompress", "keras", "tensorflow", "ai-edge-litert", "onnxruntime", "scikit-learn", "numpy")


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
    class_names: ClassNames = None,
    from_logits: bool | None = None,
    runs: int | None = None,
    warmup: int = 10,
    seconds: float = 2.0,
    about: Mapping[str, Any] | None = None,
    scans: Sequence[Scan] = (),
    layers: bool = True,
    runtime: str | Mapping[str, str] | None = None,
    target: TargetName | Mapping[str, TargetName] | None = None,
    ram: int | None = None,
    flash: int | None = None,
) -> Report:
    """Measure size, quality and latency of several models on the same data.

    Latency is taken at batch 1 on the first sample of `data`, all models in turns.

    Args:
        models: {name: a Keras model, an `Artifact`, or the path of a `.tflite`, a `.onnx` or of what `tfc.load` takes}.
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
        about: what else the report should say, by name: {"model": "ResNet50", "data": "flowers", "recipe": "int8",
            "seed": 0, "command": "..."}; "model" and "data" stand at its top.
        scans: what `tfc.sensitivity` and `tfc.sweep` found, to be shown in the report.
        layers: whether the report compares models and files layer by layer with a Keras model among them, on a few
            samples: weights and activations before and after. That is done when it is first written, and it holds the
            models.
        runtime: what runs the files: "litert", "onnxruntime", or "tflm" for TFLite Micro; by name of the model for
            several; None: that of each format. Of those in TFLite Micro the report has the arena, to the byte.
        target: what the files are for, as in `tfc.export`; by name of the model for several. Each is run in the runtime
            that proves such files, and refused if it has what the target can't do. For an Arm Ethos-U the report has
            what Arm's compiler Vela estimates of each: flash, SRAM, cycles and time, and what the NPU leaves to the
            processor (see `tfc.estimate_npu`). None: not said.
        ram: bytes that a file's arena may take in TFLite Micro, or of SRAM by Vela's estimates; the report says which
            fit. None: any.
        flash: bytes that the file itself may take there, or what Vela makes of it. None: any.

    Returns:
        `Report`: `print(report)`, `report.verdict`, `report.save("report.html")`, `report.to_markdown("report.md")`,
        `report.to_json("report.json")`, `report["name"].metrics`.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the runtime, or Vela for an Ethos-U, isn't installed.
        TypeError: `about` is no dict of names, or one of `scans` is no result of a scan.
        ValueError: no model, an unknown baseline, data that doesn't fit one of the models, or a file that its target
            can't run.

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
    check_flag("layers", layers)
    check_options(task, batch_size, from_logits)
    timing_module.check_options(runs, warmup, 1, seconds)
    if not isinstance(about, Mapping | None) or not all(isinstance(name, str) for name in about or ()):
        raise TypeError(f"Expected about to be a dict {{name: what to say}}. Received: about={short(about)}.")
    if not isinstance(scans, list | tuple) or not all(hasattr(scan, "draw") for scan in scans):
        raise TypeError(f"Expected scans to be what tfc.sensitivity and tfc.sweep return. Received: {short(scans)}.")

    check_limits(ram, flash)
    runtimes = _by_file(runtime, named_models, "runtime", check_runtime)
    targets = _by_file(target, named_models, "target", get_target)

    options: dict[str, Any] = {"task": task, "class_names": names_by_output(class_names), "from_logits": from_logits}
    predictors = {
        name: open_predictor(model, threads, runtimes.get(name), targets.get(name))
        for name, model in named_models.items()
    }
    needs = needs_of(predictors, named_models, targets, ram, flash)
    outputs = predictors[baseline].output_names
    evaluations = {name: Evaluation(predictor, batch_size) for name, predictor in predictors.items()}
    sizes, inputs = {}, {}
    first: dict[str, Arrays] = {}
    files = {name: model.path if isinstance(model, Saved) else model for name, model in named_models.items()}
    is_file = {name: isinstance(file, str | os.PathLike) for name, file in files.items()}
    with progress(len(predictors) + latency) as advance:
        for x, given in batches_of(data, y):
            listed = isinstance(given, list | tuple) and len(outputs) > 1
            targets = name_arrays(given, outputs, "output", "y") if listed else given
            checked = {name: evaluation.check(x, targets) for name, evaluation in evaluations.items()}
            for name, predictor in predictors.items():
                if name not in sizes:
                    advance(f"judging {name}")
                    sizes[name] = measure_size(predictor, files[name] if is_file[name] else None)
                    inputs[name] = timing_module.one_batch(predictor, checked[name][0], 1)
                    first[name] = {key: np.array(value[:SAMPLES]) for key, value in checked[name][0].items()}
                evaluations[name].run(*checked[name])
        metrics = {name: evaluation.metrics(**options) for name, evaluation in evaluations.items()}
        timings: dict[str, Timing | None] = dict.fromkeys(predictors)
        if latency:
            advance("timing")
            taken = timing_module.time_predictors(
                list(predictors.values()), list(inputs.values()), runs=runs, warmup=warmup, seconds=seconds
            )
            timings.update(zip(predictors, taken, strict=True))
    candidates = tuple(
        Candidate(
            *(name, predictor.format, sizes[name], metrics[name], timings[name], is_file[name]),
            operators=_operators(named_models[name], predictor.format),
            **needs.get(name, {}),
            runtime=predictor.runtime,
        )
        for name, predictor in predictors.items()
    )
    how: dict[str, Any] = {"about": dict(about or {}), "scans": tuple(scans)}
    source = _layer_source(predictors, files, first) if layers else None
    return Report(candidates, baseline, environment(threads), **how, layer_source=source)


def _by_file(given: Any, models: Mapping[str, Source], what: str, read: Callable[[Any], Any]) -> dict[str, Any]:
    """Return {name of a model: what was said of its file}: the same of all files, or by name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        read(given)
        return {name: given for name, model in models.items() if not isinstance(model, keras.Model | Saved)}
    if unknown := set(given) - set(models):
        raise ValueError(
            f"Expected {what} to name models of {list(models)}. Received: {short(sorted(map(str, unknown)))}."
            f"{nearest_names(unknown, models)}"
        )
    for one in given.values():
        read(one)
    return dict(given)


def _layer_source(
    predictors: Mapping[str, Predictor], files: Mapping[str, Any], samples: Mapping[str, Arrays]
) -> LayerSource | None:
    """Return the candidates with a few samples; `None` of a single Keras model, which nothing is compared with."""
    models = {name: one.model if isinstance(one, KerasPredictor) else files[name] for name, one in predictors.items()}
    keras_models = [name for name, one in predictors.items() if isinstance(one, KerasPredictor)]
    if len(models) == len(keras_models) < 2:
        return None
    return LayerSource(models, samples[next(iter(keras_models or models))])


def _operators(model: Source, format: str) -> Operators | None:
    """Return what the operators of a candidate compute in; `None` of a Keras model."""
    if isinstance(model, Artifact) and model.operators is not None:
        return model.operators
    return read_arithmetic(model).counted() if format != "keras" and isinstance(model, str | os.PathLike) else None


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
