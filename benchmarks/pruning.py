"""python -m benchmarks.pruning [--part=mnist|cifar10|speed|step|mask] [--data=FOLDER]

Pruning beside tfmot's; writes benchmarks/results/pruning_*.json. Without --part all are run, which takes hours:
`cifar10` trains ResNet-8 twelve times.

    mnist    LeNet-300-100 and LeNet-5 of Caffe, three seeds: test error of the dense and of the sparse network
    cifar10  ResNet-8 with 70 % zeros, beside tfmot's; with half of its multiplications, in whole channels
    speed    MobileNetV2 and ResNet50 with half of their channels, float32 and int8, TFLite and ONNX, on one thread
    step     time of a training step with each criterion
    mask     time and memory of one computation of the masks of 25 million weights
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import importlib
import pathlib

from absl import app, flags, logging

PARTS = ("mask", "step", "speed", "mnist", "cifar10")
NEEDED = {"mnist": "mnist.npz", "cifar10": "resnet8_cifar10_jpeg.keras"}

PART = flags.DEFINE_multi_enum("part", PARTS, PARTS, "What is measured; may be given several times.")
DATA = flags.DEFINE_string("data", "../shared/data", "Folder with cifar10_jpeg.npz, mnist.npz and ResNet-8.")
CACHE = flags.DEFINE_string("cache", "/tmp/tfcompress-benchmarks", "Folder for what is made once, and for the files.")
ROUNDS = flags.DEFINE_integer("rounds", 31, "Rounds of timing.", lower_bound=3)


def main(_: list[str]) -> None:
    """Run the parts."""
    logging.set_verbosity(logging.ERROR)
    for part in PART.value:
        if part in NEEDED and not (pathlib.Path(DATA.value) / NEEDED[part]).exists():
            raise app.UsageError(f"Expected --data to be a folder with {NEEDED[part]}. Received: {DATA.value!r}.")
    for part in PART.value:
        module = importlib.import_module(f"benchmarks.pruning_{part}")
        command = f"python -m benchmarks.pruning --part={part}"
        module.run(pathlib.Path(DATA.value), pathlib.Path(CACHE.value), ROUNDS.value, command)


if __name__ == "__main__":
    app.run(main)
