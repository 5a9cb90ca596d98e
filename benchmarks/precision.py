"""python -m benchmarks.precision [--part=step|memory|mnist|cifar10|gpu] [--data=FOLDER]

Training in mixed precision beside float32; writes benchmarks/results/precision_*.json. Without --part all but `gpu` are
run, which takes hours: `cifar10` trains ResNet-8 on a CPU.

    step     time of a training step: float32, bfloat16 and float16; plain, pruned and quantized, in turns
    memory   what the activations of a training step take
    mnist    accuracy of a small network, three seeds
    cifar10  accuracy of ResNet-8, trained on from its weights, three seeds
    gpu      the step of ResNet50 on a GPU, through Keras' JAX backend: KERAS_BACKEND=jax
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import importlib
import pathlib

from absl import app, flags, logging

PARTS = ("step", "memory", "mnist", "cifar10", "gpu")
NEEDED = {"mnist": "mnist.npz", "cifar10": "resnet8_cifar10_jpeg.keras"}

PART = flags.DEFINE_multi_enum("part", PARTS[:-1], PARTS, "What is measured; may be given several times.")
DATA = flags.DEFINE_string("data", "../shared/data", "Folder with cifar10_jpeg.npz, mnist.npz and ResNet-8.")
ROUNDS = flags.DEFINE_integer("rounds", 15, "Rounds of timing.", lower_bound=3)


def main(_: list[str]) -> None:
    """Run the parts."""
    logging.set_verbosity(logging.ERROR)
    for part in PART.value:
        if part in NEEDED and not (pathlib.Path(DATA.value) / NEEDED[part]).exists():
            raise app.UsageError(f"Expected --data to be a folder with {NEEDED[part]}. Received: {DATA.value!r}.")
        if part != "gpu":
            os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    for part in PART.value:
        module = "accuracy" if part in NEEDED else part
        command = f"python -m benchmarks.precision --part={part}"
        importlib.import_module(f"benchmarks.precision_{module}").run(
            part, pathlib.Path(DATA.value), ROUNDS.value, command
        )


if __name__ == "__main__":
    app.run(main)
