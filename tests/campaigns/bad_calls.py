"""python -m tests.campaigns.bad_calls [share of the calls, such as 0.1]

Calls every verb with one argument that is wrong, all others right. It is refused by TypeError, ValueError or OSError
that says what was expected and what was received.
"""

from __future__ import annotations

import io
import os
import pathlib
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tfcompress as tfc
from tests.campaigns.counting import Counts

REFUSED = (TypeError, ValueError, OSError, ImportError, RuntimeError)
WORDS = ("Expected", "Received")

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.arange(8) % 3


class Other:
    """What no argument is."""

    def __repr__(self) -> str:
        return "<other>"


def text(value: Any) -> str:
    """Return a value in a line."""
    line = " ".join(repr(value).split())
    return line if len(line) < 60 else f"{line[:57]}..."


class NoArray:
    """What says that it is an array, and fails."""

    def __array__(self, *given: Any, **how: Any) -> np.ndarray:
        """Fail."""
        raise RuntimeError("no array")

    def __repr__(self) -> str:
        return "<no array>"


def one_argument(_: Any) -> None:
    """Take what no data, and return what no selector, is."""


def fails(*_: Any) -> None:
    """Raise an error of the user's own."""
    raise ZeroDivisionError("division by zero")


def closed() -> Any:
    """Return a file that is closed."""
    file = io.StringIO()
    file.close()
    return file


HUGE = np.full((8, 4), 1e39)
DENSE = keras.layers.Dense(2)
NUMBERS = ["3", None, [], {}, float("nan"), float("inf"), 1j, Other(), True]
KINDS: dict[str, list[Any]] = {
    "model": [None, "model", 3, [], {}, Other(), keras.Model, keras.layers.Dense(2), np.ones(3), b"model"],
    "source": [None, 3, [], {}, Other(), keras.Model, keras.layers.Dense(2), np.ones(3), "none.keras", "none.onnx"],
    "data": [
        None, "x", 3, [], {}, Other(), np.ones((8, 5)), np.ones((0, 4)), np.ones(()), {"none": X},
        np.array([["a"] * 4] * 8), np.ones((8, 4), complex), np.full((8, 4), None), iter(()), b"x",
        HUGE, np.ma.masked_array(X, X > 1), [[1.0, 2.0], [3.0]], X.astype("datetime64[s]"), NoArray(),
        DENSE, one_argument, tfc.PruneConfig, type, closed(), np.zeros((8, 4), [("a", int)]),
    ],
    "target": [
        None, "y", 3, [], {}, Other(), np.ones(5), np.ones((0,)), {"none": Y}, np.array(["a"] * 8), Y + 1j,
        np.full(8, None), np.full(8, np.nan), np.full(8, 1e39), np.ma.masked_array(Y, Y > 1), [(X, Y)], NoArray(),
    ],
    "flag": ["no", "yes", 1, 0, None, [], {}, 2.0, Other()],
    "count": [*NUMBERS, 0, -1, 1.5, 10**12],
    "share": [*NUMBERS, -0.1, 1.0, 2],
    "positive": [*NUMBERS, 0, -1],
    "choice": ["none", 3, [], {}, Other(), b"x", True, np.ones(3), np.zeros((0, 4)), np.array(["a", "b"]), NoArray()],
    "path": [3, [], {}, Other(), b"model.onnx", "", "model.unknown", "no/where/model.onnx", "a\0b.onnx"],
    "layers": [
        "none", 3, [3], {}, Other(), ["none"], "(", np.ones(()), DENSE, [DENSE], one_argument, fails,
        closed(), b"hidden",
    ],
    "several": [3, None, [], {}, Other(), ["a"], "0.5", [2.0], [None], np.ones(()), b"abc", {"a", "b", "c"}, closed()],
    "fields": [None, 3, "a", [], {}, Other(), [("a", 1)], {"a": 1}, {1: 2}, np.ones((2, 2)), closed()],
    "dtypes": [3, "none", [None], {"x": None}, {"y": "float32"}, "int8", Other(), ["float32"] * 2],
    "shapes": [3, "none", [0, 4], [-1, 4], (2, 5), {"x": None}, {"y": (4,)}, Other(), [(4,), (4,)]],
    "width": [0, -1, 1.5, float("nan"), "3", None, Other()],
    "folder": [3, [], {}, Other(), b"logs", float("nan")],
    "config": ["none", 3, [], {}, Other(), None, tfc.PruneConfig, np.ones(3)],
    "criterion": ["none", 3, [], {}, Other(), b"x", np.ones(3), DENSE, keras.losses.MeanSquaredError(), one_argument],
    "array": [
        None, "x", [], {}, Other(), [float("nan")], np.ones((0,)), np.array(["a"]), [1j], [[1], [1, 2]], NoArray(),
        np.ma.masked_array(X, X > 1),
    ],
}  # fmt: skip
# A file computes with what is infinite in float32, as Keras does.
KINDS["values"] = [value for value in KINDS["data"] if value is not HUGE]


def verbs(folder: pathlib.Path) -> dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, str]]]:
    """Return each verb with arguments that are right, and what kind each is of."""
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(5, activation="relu", name="hidden")
    model = keras.Sequential([keras.Input((4,), name="x"), hidden, keras.layers.Dense(3, name="y")])
    quantized = tfc.quantize(model, "int8", X)
    file = folder / "model.onnx"
    tfc.export(quantized, file)
    out = folder / "out.onnx"
    size = {"batch_size": 4}
    scan = tfc.sensitivity(model, (X, Y), sparsities=(0.5,), progress=False)
    report = tfc.compare({"a": model}, X, Y, latency=False)
    return {
        "export": (tfc.export, {"model": model, "path": out, "overwrite": True}, {
            "model": "model", "path": "path", "inference_io": "choice", "precision": "choice",
            "opset": "count", "sparse": "choice", "overwrite": "flag", "batch_size": "positive",
            "input_shapes": "shapes", "input_dtypes": "dtypes", "verify": "data", "require_integer": "flag",
            "stateful": "choice", "random": "choice"}),
        "save": (tfc.save, {"model": model, "path": folder / "out.keras", "overwrite": True}, {
            "model": "model", "path": "path", "overwrite": "flag"}),
        "load": (tfc.load, {"path": folder / "none.keras"}, {"path": "path", "unsafe": "flag"}),
        "prune": (tfc.prune, {"model": model, "config": 0.5}, {
            "model": "model", "config": "config", "layers": "layers", "input_shapes": "shapes",
            "input_dtypes": "dtypes"}),
        "prune_once": (tfc.prune_once, {"model": model, "sparsity": 0.5}, {
            "model": "model", "sparsity": "share", "layers": "layers", "scope": "choice", "criterion": "criterion",
            "granularity": "choice", "allocation": "choice", "none": "choice"}),
        "cluster": (tfc.cluster, {"model": model, "config": 4}, {
            "model": "model", "config": "width", "layers": "layers", "init": "choice", "codebook": "choice",
            "granularity": "choice", "preserve_sparsity": "flag", "gradient": "choice",
            "input_shapes": "shapes", "input_dtypes": "dtypes", "none": "choice"}),
        "compare_codebooks": (tfc.compare_codebooks, {"model": model, "bits": (2, 4)}, {
            "model": "model", "bits": "several", "methods": "several", "layers": "layers", "granularity": "choice"}),
        "quantize": (tfc.quantize, {"model": model, "config": "int8", "data": X, **size}, {
            "model": "model", "config": "config", "data": "data", "layers": "layers", "equalize": "flag",
            "correct_bias": "flag", "reestimate_batch_norm": "flag", "batch_size": "count", "input_shapes": "shapes",
            "input_dtypes": "dtypes"}),
        "calibrate": (tfc.calibrate, {"model": quantized, "data": X, **size}, {
            "model": "model", "data": "data", "batch_size": "count"}),
        "evaluate": (tfc.evaluate, {"model": model, "data": X, "y": Y, **size}, {
            "model": "source", "data": "data", "y": "target", "task": "choice", "batch_size": "count",
            "class_names": "several", "from_logits": "flag"}),
        "compare": (tfc.compare, {"models": {"a": model}, "data": X, "y": Y, "latency": False}, {
            "models": "several", "data": "data", "y": "target", "baseline": "choice", "threads": "count",
            "latency": "flag", "layers": "flag", "runs": "count", "warmup": "count", "seconds": "positive",
            "from_logits": "flag", "batch_size": "count", "class_names": "several", "task": "choice"}),
        "benchmark": (tfc.benchmark, {"model": file, "runs": 2, "warmup": 1}, {
            "model": "source", "threads": "count", "runs": "count", "warmup": "count", "batch_size": "count",
            "seconds": "positive", "data": "data"}),
        "verify": (tfc.verify, {"model": quantized, "path": file, "data": X}, {
            "model": "model", "path": "path", "data": "data", "batch_size": "count", "threads": "count"}),
        "debug": (tfc.debug, {"model": quantized, "path": file, "data": X}, {
            "model": "model", "path": "path", "data": "data", "batch_size": "count", "threshold": "positive",
            "reference": "model"}),
        "summary": (tfc.summary, {"model": model}, {"model": "model"}),
        "sparsity": (tfc.sparsity, {"model": model}, {"model": "model"}),
        "strip": (tfc.strip, {"model": model}, {"model": "model"}),
        "shrink": (tfc.shrink, {"model": model}, {"model": "model"}),
        "distill": (tfc.distill, {"student": model, "teacher": keras.models.clone_model(model)}, {
            "student": "model", "teacher": "model", "temperature": "positive", "alpha": "share",
            "from_logits": "flag"}),
        "mixed_precision": (tfc.mixed_precision, {"model": model, "policy": "mixed_bfloat16"}, {
            "model": "model", "policy": "choice", "keep_float32": "layers"}),
        "full_precision": (tfc.full_precision, {"model": model}, {"model": "model"}),
        "check_float16": (tfc.check_float16, {"model": model, "data": X}, {
            "model": "model", "data": "data", "keep_float32": "layers", "batch_size": "count"}),
        "sensitivity": (tfc.sensitivity, {"model": model, "data": (X, Y), "sparsities": (0.5,)}, {
            "model": "model", "data": "data", "sparsities": "several", "bits": "several", "layers": "layers",
            "metric": "criterion", "resume": "path", "progress": "flag", "batch_size": "count"}),
        "xnnpack_prunable": (tfc.xnnpack_prunable, {"model": model}, {"model": "model"}),
        "uniform_quantize": (tfc.uniform_quantize, {"x": X}, {
            "x": "array", "bits": "count", "symmetric": "flag", "narrow": "flag", "axis": "choice",
            "group_size": "count", "mode": "choice"}),
        "dequantize": (tfc.dequantize, {"q": Y, "scale": 0.5, "zero_point": 0}, {
            "q": "array", "scale": "array", "zero_point": "array", "axis": "choice"}),
        "quantization_error": (tfc.quantization_error, {"x": X, "bits": 8}, {"x": "array", "bits": "count"}),
        "WeightSpec": (tfc.WeightSpec, {}, {
            "bits": "count", "granularity": "choice", "range": "choice"}),
        "ActivationSpec": (tfc.ActivationSpec, {}, {
            "bits": "count", "range": "choice", "symmetric": "flag", "dynamic": "flag", "percentile": "share",
            "momentum": "share"}),
        "QuantizeConfig": (tfc.QuantizeConfig, {}, {
            "weights": "config", "activations": "config", "float16": "flag", "freeze_ranges_step": "count"}),
        "PruneConfig": (tfc.PruneConfig, {"schedule": 0.5}, {
            "schedule": "config", "criterion": "criterion", "granularity": "choice", "scope": "choice",
            "allocation": "choice"}),
        "ConstantSparsity": (tfc.ConstantSparsity, {"target_sparsity": 0.5}, {
            "target_sparsity": "share", "begin_step": "count", "frequency": "count"}),
        "PolynomialSparsity": (tfc.PolynomialSparsity, {
            "initial_sparsity": 0.0, "final_sparsity": 0.5, "begin_step": 0, "end_step": 100}, {
            "initial_sparsity": "share", "final_sparsity": "share", "begin_step": "count", "end_step": "count",
            "power": "positive", "frequency": "count"}),
        "OneShot": (tfc.OneShot, {"target_sparsity": 0.5}, {"target_sparsity": "share", "step": "count"}),
        "Regrowth": (tfc.Regrowth, {"target_sparsity": 0.5, "end_step": 100}, {
            "target_sparsity": "share", "drop_fraction": "share", "end_step": "count"}),
        "Block": (tfc.Block, {"rows": 2, "cols": 2}, {"rows": "count", "cols": "count", "pooling": "choice"}),
        "NofM": (tfc.NofM, {"n": 2, "m": 4}, {"n": "count", "m": "count"}),
        "allocation.uniform": (tfc.allocation.uniform, {"shapes": {"a": (2, 8)}, "sparsity": 0.5}, {
            "shapes": "several", "sparsity": "share"}),
        "allocation.erdos_renyi": (tfc.allocation.erdos_renyi, {"shapes": {"a": (2, 8)}, "sparsity": 0.5}, {
            "shapes": "several", "sparsity": "share"}),
        "allocation.from_sensitivity": (tfc.allocation.from_sensitivity, {"result": scan, "budget": 0.4}, {
            "result": "source", "budget": "share"}),
        "QuantizeConfig.from_dict": (tfc.QuantizeConfig.from_dict, {}, {"values": "fields"}),
        "PruneConfig.from_dict": (tfc.PruneConfig.from_dict, {}, {"fields": "fields"}),
        "Report.save": (report.save, {"path": folder / "page.html", "overwrite": True}, {
            "path": "path", "title": "width", "overwrite": "flag"}),
        "Report.table": (report.table, {}, {"width": "width"}),
        "PrecisionMonitor": (tfc.callbacks.PrecisionMonitor, {}, {
            "log_dir": "folder",
            "every": "count", "data": "data", "reference": "flag", "verbose": "count"}),
        "PruningSummaries": (tfc.callbacks.PruningSummaries, {}, {"log_dir": "folder", "verbose": "count"}),
        "Artifact.open": (tfc.Artifact.open, {"path": file}, {"path": "path"}),
        "Artifact.predict": (tfc.Artifact.open(file).predict, {"x": X}, {"x": "values"}),
    }  # fmt: skip


RIGHT = {
    # What is wrong for others of its kind, and right here.
    "None": {
        "layers", "reference", "keep_float32", "from_logits", "class_names", "resume", "runs", "threads", "baseline",
        "x", "batch_size", "axis", "group_size", "bits", "every", "data", "activations", "task",
        "freeze_ranges_step", "sparsities",
    },
    "0": {"begin_step", "end_step", "step", "freeze_ranges_step", "verbose", "power", "momentum", "zero_point"},
    "1.0": {"alpha"}, "True": {"sparse", "verbose", "policy"}, "{}": {"classes"}, "1.5": set(), "[]": {"layers"},
    "3": {"axis"}, "'3'": {"title"}, "2": {"percentile"}, "1000000000000": set(),
}  # fmt: skip


def one_input(value: Any) -> bool:
    """Return whether a dict names the one input, or output, by a name of its own, which is right."""
    return isinstance(value, dict) and list(value) == ["none"]


def calls(folder: pathlib.Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield each call with one wrong argument."""
    for name, (verb, right, kinds) in verbs(folder).items():
        for argument, kind in kinds.items():
            for value in KINDS[kind]:
                if argument in RIGHT.get(text(value), ()) or (one_input(value) and argument in ("x", "y")):
                    continue
                given = {**right, argument: value}
                yield f"{name}({argument}={text(value)})", lambda verb=verb, given=given: verb(**given)


def judge(call: Callable[[], Any]) -> tuple[str, str]:
    """Do a call, and return what came of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except REFUSED as error:
        if all(word in str(error) for word in WORDS):
            return "refused", ""
        return "raw error", f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    except Exception as error:
        return "raw error", f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return "taken", ""


def main(share: float = 1.0) -> Counts:
    """Do a share of all calls."""
    counts = Counts("bad calls", ("refused",))
    draw = random.Random(0)
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as made:
        os.chdir(made)
        try:
            for what, call in calls(pathlib.Path(made)):
                if draw.random() < share:
                    counts.add(what, *judge(call))
        finally:
            os.chdir(before)
    return counts


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2])).end()
