"""python -m benchmarks.web [--part=recipes] [--only=MobileNetV2] [--rounds=15]

Time of one inference of `.onnx` files in onnxruntime-web, WebAssembly on one thread in Node, beside ONNX Runtime on one
thread of the same machine; the files of a network are timed in turns. Writes benchmarks/results/web.json. Needs Node;
`make .venv/.web` installs the npm package.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import base64
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks.harness import Setting, each_step, milliseconds, per_round, run_parts, save, show
from benchmarks.networks import ds_cnn, large
from tfcompress.evaluation.open_predictor import open_predictor

PACKAGES = pathlib.Path(sys.prefix) / "web"
"""Where `make .venv/.web` installs npm's packages."""
PROGRAM = pathlib.Path(__file__).with_name("web_runner.mjs")
RECIPES = ("float32", "float16", "int8", "dynamic_int8", "int8_weights", "int16x8")
NETWORKS = ("DS-CNN", "MobileNetV2", "ResNet50")
SECONDS = 600.0
"""After which Node is ended."""


@dataclasses.dataclass(frozen=True)
class WebRun:
    """What onnxruntime-web made of one file.

    Attributes:
        outputs: {output name: array}.
        load: Milliseconds until the file was loaded.
        times: Mean milliseconds of one inference, in each round.
    """

    outputs: dict[str, np.ndarray]
    load: float
    times: np.ndarray


def missing() -> str | None:
    """Return why nothing can be run in Node here, and what to do; `None` if it can."""
    if shutil.which("node") is None:
        return "Expected Node, which runs onnxruntime-web. Received: no program named node. Install Node 20 or later."
    if not (PACKAGES / "node_modules" / "onnxruntime-web").is_dir():
        return f"Expected the npm package onnxruntime-web in {PACKAGES}. Received: none. Run make .venv/.web."
    return None


def run(
    files: Sequence[tuple[pathlib.Path, Mapping[str, np.ndarray]]],
    *,
    rounds: int = 0,
    turn: float = 100.0,
    processor: bool = False,
) -> list[WebRun]:
    """Run `.onnx` files in onnxruntime-web: WebAssembly, on one thread, in one process of Node.

    Args:
        files: The path and {input name: array} of each.
        rounds: Of timing; in each, every file takes a turn.
        turn: Milliseconds of a turn.
        processor: Whether times are those of the process on all processors, not of the clock.

    Raises:
        RuntimeError: Node, the package or a file's operators are missing.
    """
    if why := missing():
        raise RuntimeError(why)
    with tempfile.TemporaryDirectory() as folder:
        asked: list[dict[str, Any]] = []
        for place, (path, inputs) in enumerate(files):
            given = []
            for number, (name, array) in enumerate(inputs.items()):
                data = pathlib.Path(folder) / f"{place}_{number}"
                data.write_bytes(np.ascontiguousarray(array).tobytes())
                given.append({"name": name, "dtype": str(array.dtype), "shape": array.shape, "data": str(data)})
            asked.append({"path": str(path), "inputs": given})
        request = pathlib.Path(folder) / "request.json"
        request.write_text(
            json.dumps({"threads": 1, "rounds": rounds, "milliseconds": turn, "processor": processor, "files": asked})
        )
        done = subprocess.run(
            ["node", str(PROGRAM), str(PACKAGES), str(request)],
            capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"onnxruntime-web failed: {done.stderr[-2000:]}")
    return [
        WebRun({output["name"]: _array(output) for output in row["outputs"]}, row["load"], np.array(row["times"]))
        for row in json.loads(done.stdout.splitlines()[-1])
    ]


def _array(output: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(output["data"]), output["dtype"]).reshape(output["shape"])


def recipes(setting: Setting) -> None:
    """Measure, print and save."""
    rows: list[dict[str, Any]] = []
    for name in setting.chosen(NETWORKS):
        rows += of_network(name, setting)
        show(f"One inference in WebAssembly, one thread, {name}", [row for row in rows if row["network"] == name])
    if not setting.only:
        save("web", rows, setting.command)


def of_network(name: str, setting: Setting) -> list[dict[str, Any]]:
    """Return a row for each recipe; ratios of WebAssembly are taken round by round."""
    random = np.random.default_rng(0)
    if name == "DS-CNN":
        model, x = ds_cnn(), random.normal(size=(32, 49, 10, 1)).astype(np.float32)
    else:
        model, x = large(name), random.uniform(-1, 1, (16, 224, 224, 3)).astype(np.float32)
    folder = setting.cache / "web"
    folder.mkdir(parents=True, exist_ok=True)
    files = {recipe: written(model, recipe, x, folder / f"{name}.onnx") for recipe in RECIPES}
    predictors = {recipe: open_predictor(path, threads=1) for recipe, path in files.items()}
    inputs = {recipe: predictor.check(x[:1]) for recipe, predictor in predictors.items()}
    web = run([(path, inputs[recipe]) for recipe, path in files.items()], rounds=setting.rounds)
    native = each_step(
        {recipe: predictor.step(inputs[recipe]) for recipe, predictor in predictors.items()}, setting.rounds
    )
    taken = per_round(native)
    rows = []
    for (recipe, path), result in zip(files.items(), web, strict=True):
        rows.append(
            {
                "network": name,
                "recipe": recipe,
                "bytes": path.stat().st_size,
                "load ms": f"{result.load:.0f}",
                **milliseconds(result.times),
                "faster than float32": f"{np.median(web[0].times / result.times):.2f}x",
                "ONNX Runtime ms": f"{np.median(taken[recipe]):.2f}",
                "faster there": f"{np.median(taken['float32'] / taken[recipe]):.2f}x",
                "equal outputs %": f"{equal(result.outputs, predictors[recipe].run(inputs[recipe])):.1f}",
            }
        )
    return rows


def written(model: keras.Model, recipe: str, x: np.ndarray, path: pathlib.Path) -> pathlib.Path:
    """Export a model quantized by a recipe, or float with its weights in 32 or 16 bits."""
    path = path.with_stem(f"{path.stem}.{recipe}")
    if recipe.startswith("float"):
        tfc.export(model, path, precision=recipe, overwrite=True)
    else:
        tfc.export(tfc.quantize(model, recipe, x, batch_size=4), path, overwrite=True, verify=x[:2])
    return path


def equal(outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    """Return the share of values that are those of ONNX Runtime, but for the last bits of float32, in per cent."""
    same = [np.isclose(outputs[name], value, rtol=1e-4, atol=1e-6).ravel() for name, value in expected.items()]
    return float(100 * np.concatenate(same).mean())


if __name__ == "__main__":
    run_parts("web", __doc__, {"recipes": recipes}, rounds=15, selective=("recipes",))
