"""python -m tests.campaigns.kills [kills of each program]

Kills programs at moments drawn over their whole run, by SIGKILL, SIGTERM and SIGINT. What was there before is whole
afterwards; SIGTERM and SIGINT end within two seconds with 143 and 130 and leave no drafts; started once more, a program
that was killed ends with the very weights, and bytes of files, of one that wasn't. Behind a job's name stands its data.
"""

from __future__ import annotations

import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tfcompress as tfc
from tests.campaigns.counting import Counts
from tfcompress.core.temporary_folders import PREFIX
from tfcompress.pipeline.checkpoints import PREFIX as RESUME

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 2.0
CODES = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
PROGRAMS = {
    "train": ["--output={}/out.keras", "--epochs=6"],
    "prune": ["--model={}/model.keras", "--output={}/out.keras", "--finetune_epochs=6"],
    "quantize": ["--model={}/model.keras", "--output={}/out.keras", "--outputs={}/out.tflite", "--qat_epochs=6"],
    "compress": ["--model={}/model.keras", "--output_dir={}", "--name=out", "--finetune_epochs=4", "--qat_epochs=4"],
    "compress images": [
        *("--image_size=16", "--output_dir={}", "--name=out", "--epochs=3", "--finetune_epochs=3", "--qat_epochs=3"),
        "--batch_size=8",
    ],
    "convert": ["--model={}/model.keras", "--outputs={}/out.tflite,{}/out.onnx"],
}


def workshop(folder: pathlib.Path) -> None:
    """Make a model and its data."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 1200)
    x = (np.eye(3)[y].repeat(4, axis=1) + generator.normal(0, 0.3, (1200, 12))).astype("float32")
    np.savez(folder / "data.npz", x_train=x[:900], y_train=y[:900], x_test=x[900:], y_test=y[900:])
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((12,), name="x"), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)])
    model.save(folder / "model.keras")
    for name, shade in (("cat", 80), ("dog", 180)):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(40):
            image = generator.normal(shade, 30, (20, 20, 3)).clip(0, 255).astype("uint8")
            keras.utils.save_img(folder / "images" / name / f"{number}.png", image, scale=False)


def start(name: str, folder: pathlib.Path) -> subprocess.Popen[str]:
    """Start a program in a folder, whose temporary files are there too."""
    flags = [flag.replace("{}", str(folder)) for flag in PROGRAMS[name]]
    job, _, given = name.partition(" ")
    data = [] if job == "convert" else [f"--data={folder / (given or 'data.npz')}"]
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")}
    command = [sys.executable, "-m", "tfcompress", job, *flags, *data]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(folder: pathlib.Path) -> list[np.ndarray]:
    """Return the weights of the model that a program made, and the bytes of its files; none for one that makes none."""
    made = [path for path in (folder / "out.keras", folder / "out" / "quantized.keras") if path.exists()]
    files = sorted(path for path in folder.rglob("out/*") if path.suffix in (".tflite", ".onnx"))
    weights = [weight for path in made for weight in tfc.load(path).get_weights()]
    return weights + [np.frombuffer(path.read_bytes(), np.uint8) for path in files]


def left(folder: pathlib.Path) -> list[str]:
    """Return the drafts that lie in a folder, and temporary files."""
    drafts = [str(path) for path in folder.rglob(f"{PREFIX}*")]
    return drafts + [str(path) for path in (folder / "tmp").iterdir()]


def kill(name: str, number: signal.Signals, after: float, expected: list[np.ndarray]) -> tuple[str, str]:
    """Kill a program, look at what is there, and start it once more."""
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        workshop(folder)
        running = start(name, folder)
        time.sleep(after)
        running.send_signal(number)
        sent = time.perf_counter()
        stdout, stderr = running.communicate()
        took = time.perf_counter() - sent
        if running.returncode == 0:
            return "done before", ""
        if running.returncode != CODES[number]:
            return "another exit code", f"{running.returncode}: {stderr[-500:]}"
        if "Traceback" in stderr:
            return "a traceback", stderr[-500:]
        if number != signal.SIGKILL and took > SECONDS:
            return "too slow", f"{took:.1f} s"
        if number != signal.SIGKILL and left(folder):
            return "leftovers", str(left(folder))
        again = start(name, folder)
        stdout, stderr = again.communicate()
        if again.returncode != 0:
            # What was done before the kill isn't replaced without --overwrite.
            refused = "overwrite" in stderr and (name == "convert" or not list(folder.glob(f"{RESUME}*")))
            return ("refused to replace", "") if refused else ("not started again", stderr[-500:])
        if left(folder):
            return "leftovers later", str(left(folder))
        found = result(folder)
        same = len(found) == len(expected) and all(map(np.array_equal, found, expected))
        resumed = "Resuming an earlier run" in stdout
        return (("went on, equal" if resumed else "anew, equal") if same else "other weights"), ""


def main(rounds: int, programs: tuple[str, ...] = tuple(PROGRAMS)) -> Counts:
    """Kill each program `rounds` times by each signal."""
    counts = Counts("kills", ("done before", "refused to replace", "went on, equal", "anew, equal"))
    draw = random.Random(0)
    for name in programs:
        with tempfile.TemporaryDirectory() as made:
            folder = pathlib.Path(made)
            workshop(folder)
            begun = time.perf_counter()
            running = start(name, folder)
            _, stderr = running.communicate()
            seconds = time.perf_counter() - begun
            assert running.returncode == 0, stderr
            expected = result(folder)
        for number in CODES:
            for _ in range(rounds):
                after = draw.uniform(0.3, seconds)
                outcome, detail = kill(name, number, after, expected)
                counts.add(f"{name} {number.name} after {after:.1f} of {seconds:.1f} s", outcome, detail)
                print(f"{name} {number.name} after {after:.1f} s: {outcome} {detail}", flush=True)
    return counts


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2] or ["5"]), *([tuple(sys.argv[2:])] if sys.argv[2:] else [])).end()
