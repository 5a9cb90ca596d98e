"""python -m benchmarks.quantization [--part=ptq|qat|speed|step|memory] [--data=FOLDER]

Quantization beside TensorFlow's converter, ai-edge-quantizer, ONNX Runtime and tfmot; writes
benchmarks/results/quantization_*.json. Without --part all are run, which takes hours: `qat` trains ResNet-8 nine times.

    ptq     accuracy, bytes, time and parity after calibration: ResNet-8 on CIFAR-10, a small network on MNIST
    qat     accuracy of the int8 files after training with quantization, beside tfmot's
    speed   MobileNetV2, ResNet50 and ResNet-8 on one thread
    step    time of a training step
    memory  of calibration, as the number of batches grows
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import importlib
import pathlib

from absl import app, flags, logging

PARTS = ("ptq", "speed", "step", "memory", "qat")

PART = flags.DEFINE_multi_enum("part", PARTS, PARTS, "What is measured; may be given several times.")
DATA = flags.DEFINE_string("data", "../shared/data", "Folder with cifar10_jpeg.npz, mnist.npz and ResNet-8.")
CACHE = flags.DEFINE_string("cache", "/tmp/tfcompress-benchmarks", "Folder for what is made once, and for the files.")
ROUNDS = flags.DEFINE_integer("rounds", 31, "Rounds of timing.", lower_bound=3)


def main(_: list[str]) -> None:
    """Run the parts."""
    logging.set_verbosity(logging.ERROR)
    missing = [
        name
        for name in ("cifar10_jpeg.npz", "mnist.npz", "resnet8_cifar10_jpeg.keras")
        if not (pathlib.Path(DATA.value) / name).exists()
    ]
    if missing and not {"step", "memory"}.issuperset(PART.value):
        raise app.UsageError(f"Expected --data to be a folder with {missing[0]}. Received: {DATA.value!r}.")
    for part in PART.value:
        module = importlib.import_module(f"benchmarks.quantization_{part}")
        command = f"python -m benchmarks.quantization --part={part}"
        module.run(pathlib.Path(DATA.value), pathlib.Path(CACHE.value), ROUNDS.value, command)


if __name__ == "__main__":
    app.run(main)
