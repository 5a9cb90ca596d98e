"""By how many steps of its grid an int8 file differs from Keras, which simulates the runtime that runs the file."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from benchmarks.harness import ROOT
from tests.layer_cases import CASES
from tests.layer_support import NOTHING, YES, expected_outputs

SEEDS = (1, 2, 3, 4, 5, 6, 7, 8)
"""Of the samples on which files and Keras are compared; the ranges are of others."""

FLOAT, REFUSED = "float", "refused"
REASONS: list[dict[str, Any]] = json.loads((ROOT / "benchmarks" / "steps_off.json").read_text())
"""Why layers are off, or refused: each names the columns and the layers that it is the reason of."""


@dataclasses.dataclass(frozen=True)
class Way:
    """How a file is run, and what is simulated."""

    arithmetic: str
    suffix: str
    runtime: str

    @property
    def installed(self) -> bool:
        """Whether it can be run here."""
        return self.runtime != "tflm" or importlib.util.find_spec("tflite_micro") is not None


WAYS = {
    "LiteRT steps": Way("xnnpack", ".tflite", "litert"),
    "TFLite Micro steps": Way("reference", ".tflite", "tflm"),
    "ONNX Runtime steps": Way("onnxruntime", ".onnx", "onnxruntime"),
}
"""By the column of the table that says how many steps they are off."""


def steps_off(row: Mapping[str, str]) -> dict[str, str]:
    """Return {column: the largest difference in steps} of a layer that is integer in Keras.

    "float": its output lies on no grid; "refused": the runtime has no operator for it; "-": it isn't integer.

    Args:
        row: The table's other columns.
    """
    from tfcompress.quantization import quantize

    case = CASES[row["layer"]]
    if isinstance(case, str) or row["int8"] != YES:
        return dict.fromkeys(WAYS, NOTHING)
    model = quantize(case.model(), "int8", case.samples())
    parts = [case.samples(seed) for seed in SEEDS]
    found = compared(model, [np.concatenate(batches) for batches in zip(*parts, strict=True)])
    own = slice(-1) if case.place == "beside" else slice(None)  # but for the dense layer's
    return {column: REFUSED if steps is None else _said(steps[own]) for column, steps in found.items()}


def _said(steps: Sequence[float | None]) -> str:
    on_grids = [step for step in steps if step is not None]
    return f"{max(on_grids):g}" if on_grids else FLOAT


def compared(
    model: keras.Model, data: list[np.ndarray], columns: Sequence[str] = tuple(WAYS)
) -> dict[str, list[float | None] | None]:
    """Return for each runtime by how many steps each output is off; `None` for an output on no grid.

    A runtime that refuses the file has `None`.
    """
    from tfcompress.quantization.graph.chosen_arithmetic import simulated

    found: dict[str, list[float | None] | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        for column in columns:
            way = WAYS[column]
            try:
                values = _run(model, data, pathlib.Path(folder), way)
            except Exception:  # the runtimes raise what they like
                found[column] = None
                continue
            with simulated(model, way.arithmetic):
                expected = expected_outputs(model, data)
            found[column] = [_steps(*pair) for pair in zip(values, expected, strict=True)]
    return found


def _run(model: keras.Model, data: list[np.ndarray], folder: pathlib.Path, way: Way) -> list[np.ndarray]:
    from tfcompress.export import export
    from tfcompress.runtime.opening import open_runner

    path = folder / f"model{way.suffix}"
    if not path.exists():
        export(model, path, verify=False)
    received = open_runner(path, runtime=way.runtime).predict(data)
    return list(received.values()) if isinstance(received, dict) else [received]


def _steps(value: np.ndarray, expected: tuple[np.ndarray, float | None]) -> float | None:
    reference, step = expected
    return float(np.rint(np.abs(np.asarray(value, "float64") - reference).max() / step)) if step else None


def is_off(value: str) -> bool:
    """Return whether a value of a column needs a reason."""
    return value not in ("0", FLOAT, NOTHING)


def without_reason(row: Mapping[str, str]) -> list[str]:
    """Return the columns in which a layer is off and nothing says why, or is not and something does."""
    given = {column for reason in REASONS if row["layer"] in reason["layers"] for column in reason["columns"]}
    return [column for column in WAYS if is_off(row[column]) != (column in given)]
