"""python -m tests.campaigns.command_lines [share of the command lines, such as 0.1 [program, such as cluster]]

Gives every program, or one, each of its flags with values that are wrong, and flags that don't go together. Each ends
with 2, or 1 where a file is at fault, in one message without a traceback, before any work, and writes nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tfcompress.pipeline.sensitivity as scan
from tests.campaigns.counting import Counts
from tfcompress.cli.jobs import job_called
from tfcompress.cli.main import code_of

LONG = "n" * 300
RIGHT = {
    "train": ["--data=data.npz", "--output=out.keras", "--epochs=1"],
    "prune": ["--model=model.keras", "--data=data.npz", "--output=out.keras", "--finetune_epochs=1"],
    "cluster": [
        *("--model=model.keras", "--data=data.npz", "--output=out.keras", "--number_of_clusters=4"),
        "--finetune_epochs=1",
    ],
    "quantize": ["--model=model.keras", "--data=data.npz", "--output=out.keras"],
    "compress": ["--model=model.keras", "--data=data.npz", "--output_dir=.", "--name=out"],
    "convert": ["--model=model.keras", "--outputs=out.onnx"],
    "evaluate": ["--models=model.keras", "--data=data.npz"],
    "benchmark": ["--models=model.keras"],
    "sensitivity": ["--model=model.keras", "--data=data.npz", "--output=out.json"],
    "search": ["--model=model.keras", "--data=data.npz", "--recipe=space.yaml", "--output_dir=.", "--trials=1"],
    "inspect": ["--model=model.keras"],
}
SPACE = """name: space
when: To try command lines with.
steps:
- {step: quantize, config: {choice: [int8, w4a8]}}
- {step: export, files: [a.onnx]}
"""
WRONG = {
    "integer": ["", "a", "1.5", "-1", "1e9", "nan", "99999999999999999999", "True"],
    "float": ["", "a", "nan", "inf", "-1", "1e400"],
    "boolean": ["maybe", "2", "None"],
    "enum": ["", "none of these", "INT8", "1"],
    "text": [""],
    "files": ["", ",", "none.keras", "none.tflite,none.onnx", "data.npz,data.npz", "a.pb"],
    "path": ["", "none/none.keras", "text.txt", "."],
}
KINDS = {"multi string": "enum", "comma separated list of strings": "files", "bool": "boolean", "int": "integer",
         "string enum": "enum", "string": "text"}  # fmt: skip
PATHS = ("model", "data", "config", "output", "html", "json")
TOGETHER = {
    "train": [["--devices=2"], ["--distribution=data_parallel"], ["--num_processes=2"], ["--process_id=0"],
              ["--distribution=mirrored", "--model_devices=2"], ["--distribution=mirrored", "--devices=100000"],
              ["--distribution=multi_worker_mirrored"], ["spare"], ["--nothing"], ["--epochs"], ["--nooverwrite=1"],
              ["--learning_rate=0"], ["--output=/proc/out.keras"], [f"--output={LONG}.keras"], ["--data=forms.npz"],
              ["--data=numbers.npz"], ["--flagfile=none"], ["--seed=4294967296"], ["--threads=1"]],
    "prune": [["--threshold=0.1"], ["--criterion=threshold"], ["--shrink"], ["--noshrink"], ["--granularity=2:1"],
              ["--granularity=0x4"], ["--granularity=rows"], ["--granularity=2:4", "--scope=global"],
              ["--criterion=activation_frequency"], ["--criterion=bn_scale"], ["--sweep=0.5", "--sparsity=0.5"],
              ["--sweep=0.5"], ["--sweep=a"], ["--sweep="], ["--layers=none"], ["--layers=("]],
    "cluster": [["--number_of_clusters=1"], ["--number_of_clusters=257"], ["--number_of_clusters=9"],
                ["--init=kmeans_plus_plus"], ["--codebook=uniform"], ["--codebook=additive_power_of_two"],
                ["--codebook=uniform", "--number_of_clusters=3", "--init=linear"], ["--granularity=3"],
                ["--granularity=1"], ["--granularity=rows"], ["--granularity=2.5"], ["--layers=none"], ["--layers=("],
                ["--layers=y", "--number_of_clusters=200"], ["--config=text.txt"], ["--output=text.txt"],
                ["--distribution=mirrored", "--devices=100000"], ["--data=forms.npz", "--learning_rate=0"]],
    "quantize": [["--inference_io=int8"], ["--recipe=float16", "--range=mse"], ["--freeze_ranges_epoch=1"],
                 ["--qat_epochs=2", "--freeze_ranges_epoch=2"], ["--opset=20"], ["--nopreserve_sparsity"],
                 ["--learning_rate=0.1"], ["--distribution=mirrored"], ["--outputs=a.onnx,a.onnx"],
                 ["--qat_epochs=2", "--freeze_ranges_epoch=1", "--freeze_ranges_step=1"],
                 ["--recipe=int8_weights", "--calibration_samples=4"], ["--outputs=a.keras"], ["--layers=none"]],
    "compress": [["--epochs=3"], ["--data="], ["--layers=none"], ["--name=.."], ["--name=a/b"], ["--name=/tmp/a"],
                 [f"--name={LONG}"], ["--output_dir=text.txt"], ["--output_dir=/proc"], ["--data=forms.npz"],
                 ["--recipe=none"], ["--recipe=text.txt"], ["--recipe=int8", "--sparsity=0.5"], ["--max_drop=-1"],
                 ["--max_drop=1", "--minimize=speed"], ["--max_drop=1", "--formats=pb"], ["--minimize=size"]],
    "convert": [["--outputs=out.tflite", "--opset=20"], ["--inference_io=int8"], ["--outputs=out.onnx,out.onnx"],
                ["--outputs=model.keras"], ["--outputs=no/where.onnx"], ["--model=data.npz"], ["--sparse"],
                ["--outputs=out.onnx,./out.onnx"], ["--outputs=/dev/null"], [f"--outputs={LONG}.onnx"],
                ["--model=http://somewhere/model.keras"], ["--precision=float16", "--inference_io=int8"]],
    "evaluate": [["--models=model.keras,./model.keras"], ["--data=forms.npz"],
                 ["--html=page.txt"], ["--json=page.html"], ["--html=no/where.html"], ["--models=text.txt"]],
    "benchmark": [["--models=text.txt"], ["--threads=100000"], ["--models=data.npz"], ["--json=text.txt"]],
    "sensitivity": [["--bits=4", "--sparsities=0.5"], ["--bits=1"], ["--sparsities=2"], ["--layers=none"],
                    ["--output=text.txt"], ["--output=no/where.json"], ["--data=forms.npz", "--metric=r2"]],
    "search": [["--recipe=text.txt"], ["--recipe=none"], ["--trials=0"], ["--objectives=accuracy"],
               ["--data=forms.npz"], ["--storage=nothing://x"], ["--max_drop=-1"], ["--output_dir=text.txt"],
               ["--output_dir=/proc"]],
    "inspect": [["--model=text.txt"], ["--model=data.npz"], ["--model=none.tflite"], ["--json=no/where.json"]],
}  # fmt: skip


def workshop() -> None:
    """Make a model and its data in the folder where the process is."""
    x, y = np.random.default_rng(0).normal(size=(40, 4)).astype("float32"), np.arange(40) % 2
    np.savez("data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez("forms.npz", x_train=x, y_train=y, x_test=x, y_test=np.eye(2)[y])
    np.savez("numbers.npz", x_train=x, y_train=y * 10**12, x_test=x, y_test=y)
    keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="y")]).save("model.keras")
    pathlib.Path("text.txt").write_text("nothing")
    pathlib.Path("space.yaml").write_text(SPACE)


def lines(name: str) -> Iterator[list[str]]:
    """Yield command lines of a program, each with something wrong."""
    values = job_called(name).values()
    for flag in values:
        kind = values[flag].flag_type()
        kind = "path" if flag in PATHS else KINDS.get(kind, kind)
        for value in WRONG["enum" if kind.startswith("enum") else kind]:
            if (flag, value) != ("outputs", "none.tflite,none.onnx"):  # they may be new
                yield [*RIGHT[name], f"--{flag}={value}"]
    yield from ([*RIGHT[name], *more] for more in TOGETHER[name])


def judge(name: str, line: list[str]) -> tuple[str, str]:
    """Give a program a command line, and return what came of it."""
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    before = sorted(os.listdir("."))
    worked = AssertionError("it trained, exported or timed")

    def work(*given: Any, **how: Any) -> Any:
        raise worked

    idle = [(keras.Model, "fit"), (scan, "Measure")]
    try:
        with contextlib.ExitStack() as patches:
            for owner, attribute in idle:
                patches.enter_context(mock.patch.object(owner, attribute, work))
            patches.enter_context(contextlib.redirect_stdout(out))
            patches.enter_context(contextlib.redirect_stderr(err))
            patches.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            code = code_of([name, *line])
    except AssertionError as error:
        if error is worked:
            return "worked before it was refused", ""
        return "traceback", repr(error)[:200]
    except Exception as error:
        return "traceback", repr(error)[:200]
    err.seek(0)
    message = err.read().strip()
    if sorted(os.listdir(".")) != before:
        return "wrote something", str(sorted(set(os.listdir(".")) - set(before)))
    if code == 0:
        return "taken", ""
    if not message.startswith("error:") or message.count("error:") != 1:
        return "another message", message[:200]
    return f"refused with {code}", ""


def main(share: float = 1.0, program: str = "") -> Counts:
    """Try a share of all command lines, or of those of one program."""
    counts = Counts("command lines", ("refused with 2", "refused with 1"))
    draw = random.Random(0)
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as made:
        os.chdir(made)
        try:
            workshop()
            for name in [program] if program else RIGHT:
                for line in lines(name):
                    if draw.random() < share:
                        counts.add(f"{name} {' '.join(line[len(RIGHT[name]) :])}", *judge(name, line))
        finally:
            os.chdir(before)
    return counts


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]), *sys.argv[2:3]).end()
