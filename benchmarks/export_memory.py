"""Peak memory of quantizing and of exporting large models, beyond the model itself, in times of its weights.

    python -m benchmarks.export_memory [--millions=100] [--network=dense] [--way=quantize]

Each is measured in a process of its own, which has done the same to a small network before: what libraries take when
they are loaded isn't counted. Rows are added one by one; delete results/export_memory.json to begin anew.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import sys
import tempfile
from typing import Any

from benchmarks.harness import Memory, collected, in_a_process, rows_of, show

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

NAME = "export_memory"
NETWORKS = ("dense", "convolutions + batch norm", "LSTM")
WAYS = ("float32 .tflite", "float32 .onnx", "quantize", "int8 .tflite", "int8 .onnx")
SMALL = 0.02


def network(name: str, millions: float) -> Any:
    """Return a model of so many parameters, of four layers that hold them."""
    import keras

    keras.utils.set_random_seed(0)
    each = millions * 1e6 / 4
    if name == "dense":
        size = round(math.sqrt(each))
        layers = [keras.layers.Dense(size, "relu") for _ in range(4)]
        return keras.Sequential([keras.Input((size,)), *layers])
    if name == "LSTM":
        size = round(math.sqrt(each / 8))
        layers = [keras.layers.LSTM(size, return_sequences=True) for _ in range(4)]
        return keras.Sequential([keras.Input((4, size)), *layers])
    size = round(math.sqrt(each / 9))
    layers = [keras.Input((6, 6, size))]
    for _ in range(4):
        layers += [
            keras.layers.Conv2D(size, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    return keras.Sequential(layers)


def prepared(name: str, millions: float, way: str) -> Any:
    """Return the model that a way is measured on."""
    import numpy as np

    import tfcompress as tfc

    model = network(name, millions)
    x = np.random.default_rng(0).standard_normal((4, *model.input_shape[1:]), np.float32)
    return (tfc.quantize(model, "int8", x) if way.startswith("int8") else model), x


def measure(name: str, millions: float, way: str) -> dict[str, Any]:
    """Return the figures of one way, measured here."""
    import tfcompress as tfc
    from tfcompress.core.out_of_memory import LARGE, give_back

    def do(model: Any, x: Any) -> int:
        if way == "quantize":
            tfc.quantize(model, "int8", x)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            return int(tfc.export(model, pathlib.Path(folder, f"model{way.split()[1]}")).nbytes)

    do(*prepared(name, SMALL, way))
    model, x = prepared(name, millions, way)
    weights = sum(math.prod(weight.shape) * 4 for weight in network_weights(model))
    give_back(LARGE)
    with Memory() as memory:
        size = do(model, x)
    return {
        "weights MB": round(weights / 2**20),
        "peak MB": round(memory.more),
        "times the weights": f"{memory.more * 2**20 / weights:.2f}",
        "file MB": round(size / 2**20) if size else "",
    }


def network_weights(model: Any) -> list[Any]:
    """Return the weights of the layers that hold the parameters."""
    return [weight for weight in model.weights if weight.path.rsplit("/", 1)[-1].endswith("kernel")]


def main() -> None:
    """Measure what is asked for and not yet known; print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, default=100)
    parser.add_argument("--network", choices=NETWORKS)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--here", action="store_true", help="in this process, as JSON, saving nothing")
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(given.network, given.millions, given.way)))
        return
    for name in (given.network,) if given.network else NETWORKS:
        for way in (given.way,) if given.way else WAYS:
            asked = ("--millions", str(given.millions), "--network", name, "--way", way)
            collected(
                NAME,
                "python -m benchmarks.export_memory",
                {"network": name, "way": way},
                lambda asked=asked: in_a_process(NAME, "--here", *asked),
            )
    show(f"Memory beyond a model of {given.millions:g}M parameters", rows_of(NAME))


if __name__ == "__main__":
    sys.exit(main())
