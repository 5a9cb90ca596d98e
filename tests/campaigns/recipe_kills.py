"""python -m tests.campaigns.recipe_kills [kills]

Kills runs of a recipe by SIGKILL, at moments drawn over the whole run, and runs each once more: it goes on at its step,
within an epoch too, and ends with the very weights, and bytes of files, of a run that wasn't killed. Backups are
written every tenth of a second here. The runs are forks, so that each needn't import TensorFlow anew.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import time
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from tests.campaigns.counting import Counts
from tfcompress.loading import load
from tfcompress.pipeline import Data, checkpoints
from tfcompress.recipes import Recipe, run

RECIPE = Recipe.from_dict(
    {
        "name": "killed",
        "seed": 1,
        "steps": [
            {"step": "prune", "config": 0.5},
            {"step": "finetune", "epochs": 3, "batch_size": 4, "learning_rate": 0.005},
            {"step": "export", "files": ["pruned.keras", "pruned.onnx"]},
            {"step": "quantize", "config": "int8"},
            {"step": "distill", "epochs": 3, "batch_size": 4, "learning_rate": 0.001},
            {"step": "export", "files": ["int8.onnx"]},
        ],
    }
)
GOOD = ("done before", "went on within an epoch, equal", "went on, equal", "anew, equal")


def compress(folder: pathlib.Path) -> None:
    """Run the recipe; in a process of its own."""
    import keras

    checkpoints.SECONDS, checkpoints.SHARE = 0.1, 1.0
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 1500)
    x = (np.eye(3)[y].repeat(4, axis=1) + generator.normal(0, 0.3, (1500, 12))).astype("float32")
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(24, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
    model = keras.Sequential([keras.Input((12,), name="x"), *layers, keras.layers.Dense(3)], name="small")
    run(RECIPE, model, Data("made", x[:1200], y[:1200], x[1200:], y[1200:]), folder=folder)


def start(folder: pathlib.Path) -> int:
    """Return the number of a process that runs the recipe."""
    sys.stdout.flush()
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        compress(folder)
        code = 0
    except BaseException:
        folder.with_suffix(".log").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def finish(folder: pathlib.Path) -> str:
    """Run the recipe to its end, and return what went wrong; "" if nothing did."""
    _, status = os.waitpid(start(folder), 0)
    return "" if status == 0 else folder.with_suffix(".log").read_text()[-800:]


def made(folder: pathlib.Path) -> dict[str, bytes]:
    """Return the bytes of the files, and of the weights of all models, that a run made."""
    found = {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in (".onnx", ".tflite", ".yaml")}
    for file in [*folder.glob("*.keras"), *folder.glob("steps/*.keras")]:
        found[file.name] = b"".join(np.asarray(weight).tobytes() for weight in load(file).get_weights())
    steps = json.loads((folder / "run.json").read_text())["steps"]  # Keras writes addresses into .keras files
    found["metrics"] = json.dumps([step["metrics"] for step in steps]).encode()
    return found


def reached(folder: pathlib.Path) -> str:
    """Return how far a killed run had come."""
    for file in folder.glob(f"{checkpoints.PREFIX}*/*.npz"):
        with np.load(file) as stored:
            if stored["batches"]:
                return "went on within an epoch"
    known = folder / "run.json"
    return "went on" if known.exists() and json.loads(known.read_text())["steps"] else "anew"


def main(kills: int) -> Counts:
    """Kill as many runs."""
    counts = Counts("kills of recipes", GOOD)
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        whole = pathlib.Path(place) / "whole"
        begun = time.perf_counter()
        if failed := finish(whole):
            counts.add("whole", "failed", failed)
            return counts
        seconds = time.perf_counter() - begun
        # What it made is read in a process of its own, too: this one stays one that can be forked.
        for number in range(kills):
            folder = pathlib.Path(place) / f"killed_{number}"
            after = draw.uniform(0, seconds)
            running = start(folder)
            time.sleep(after)
            os.kill(running, signal.SIGKILL)
            _, status = os.waitpid(running, 0)
            how = "done before" if status == 0 else reached(folder)
            what = f"{number} after {after:.1f} of {seconds:.1f} s"
            if failed := finish(folder):
                counts.add(what, "failed", failed)
            else:
                other = _other(folder, whole)
                same = how if how == GOOD[0] else f"{how}, equal"
                counts.add(what, same if not other else "other bytes", other)
            print(f"{what}: {how}, {list(counts.outcomes)[-1]}", flush=True)
    return counts


def _other(folder: pathlib.Path, whole: pathlib.Path) -> str:
    """Return which files of two runs differ."""
    answer = folder.with_suffix(".other")
    number = os.fork()
    if not number:
        try:
            one, two = made(folder), made(whole)
            answer.write_text(", ".join(sorted(name for name in {*one, *two} if one.get(name) != two.get(name))))
        except BaseException as error:
            answer.write_text(repr(error))
        finally:
            os._exit(0)
    os.waitpid(number, 0)
    return answer.read_text()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2] or ["30"])).end()
