"""python -m tests.campaigns.damaged_files [share of the damages, such as 0.1]

Cuts files short, flips bits, zeroes and exchanges bytes in them, and gives them to what reads them. Each is refused in
a clear message, or read; a file that is read is one that its format can't tell from a whole one.
"""

from __future__ import annotations

import os
import pathlib
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tfcompress as tfc
from tests.campaigns.bad_calls import judge
from tests.campaigns.counting import Counts
from tfcompress.pipeline import read_npz
from tfcompress.pipeline.sensitivity_curves import Sensitivity

ROUNDS = 60
X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")


def files(folder: pathlib.Path) -> dict[pathlib.Path, Callable[[pathlib.Path], Any]]:
    """Make a file of each kind; return what reads each."""
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(5, activation="relu", name="hidden")
    model = keras.Sequential([keras.Input((4,), name="x"), hidden, keras.layers.Dense(3, name="y")])
    quantized = tfc.quantize(model, "int8", X)
    y = np.arange(8) % 3
    made = {name: folder / name for name in ("m.keras", "m.h5", "w.h5", "m.tflite", "q.tflite", "m.onnx", "q.onnx")}
    model.save(made["m.keras"])
    model.save(made["m.h5"])
    model.save_weights(folder / "m.weights.h5")
    (folder / "m.weights.h5").rename(made["w.h5"])
    for name in ("m.tflite", "m.onnx"):
        tfc.export(model, made[name])
    for name in ("q.tflite", "q.onnx"):
        tfc.export(quantized, made[name])
    np.savez(folder / "data.npz", x_train=X, y_train=y, x_test=X, y_test=y)
    np.savez_compressed(folder / "packed.npz", x_train=X, y_train=y, x_test=X, y_test=y)
    tfc.sensitivity(model, (X, y), sparsities=(0.5,), resume=folder / "scan.json", progress=False)

    def run(path: pathlib.Path) -> None:
        tfc.Artifact.open(path).predict(X)

    readers: dict[str, Callable[[pathlib.Path], Any]] = {
        "m.keras": tfc.load, "m.h5": tfc.load, "w.h5": lambda path: tfc.load(path, model=model),
        "m.tflite": run, "q.tflite": run, "m.onnx": run, "q.onnx": run, "data.npz": read_npz, "packed.npz": read_npz,
        "scan.json": Sensitivity.from_json,
    }  # fmt: skip
    return {folder / name: reader for name, reader in readers.items()}


def damaged(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Return what is done to a file, and what is then in it."""
    place = draw.randrange(len(content))
    how = draw.choice(["cut", "flip", "zero", "swap", "longer", "empty"])
    changed = bytearray(content)
    if how == "cut":
        return f"cut at {place}", content[:place]
    if how == "flip":
        bit = draw.randrange(8)
        changed[place] ^= 1 << bit
        return f"bit {bit} of byte {place} flipped", bytes(changed)
    if how == "zero":
        length = draw.choice([4, 64, 512])
        changed[place : place + length] = bytes(len(changed[place : place + length]))
        return f"{length} bytes at {place} zeroed", bytes(changed)
    if how == "swap":
        changed[place : place + 16] = changed[place : place + 16][::-1]
        return f"16 bytes at {place} reversed", bytes(changed)
    if how == "longer":
        return "bytes behind the end", content + bytes(draw.randrange(256) for _ in range(100))
    return "emptied", b""


def main(share: float = 1.0) -> Counts:
    """Damage each file again and again."""
    counts = Counts("damaged files", ("refused", "taken"))
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        readers = files(pathlib.Path(made))
        for path, reader in readers.items():
            content = path.read_bytes()
            for place in range(max(1, round(share * ROUNDS))):
                what, changed = damaged(content, draw)
                broken = path.with_name(f"{place}-{path.name}")
                broken.write_bytes(changed)
                counts.add(f"{path.name}, {what}", *judge(lambda reader=reader, broken=broken: reader(broken)))
                broken.unlink()
            folder = path.with_name(f"folder-{path.name}")
            folder.mkdir()
            counts.add(f"a folder instead of {path.name}", *judge(lambda reader=reader, folder=folder: reader(folder)))
            for other in readers:  # under another's suffix
                given = path.with_name(f"other{path.suffix}")
                given.write_bytes(other.read_bytes())
                if draw.random() < share:
                    counts.add(
                        f"{other.name} as {given.name}", *judge(lambda reader=reader, given=given: reader(given))
                    )
    return counts


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2])).end()
