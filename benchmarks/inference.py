"""python -m benchmarks.inference [--part=int8|pruned|sparse|server] [--data=FOLDER] [--rounds=31]

Time of one inference on one thread, and bytes; the files of a network are timed in turns. Writes
benchmarks/results/quantization_speed.json, pruning_speed.json, sparse.json and server.json.

    int8    MobileNetV2, ResNet50 and ResNet-8 beside the peers' files
    pruned  MobileNetV2 and ResNet50 with half of their channels, float32 and int8
    sparse  TFLite files without zeros beside dense ones: of a perceptron with zeros in blocks of 16 inputs of one unit,
            which the sparse kernels take, or anywhere; of MobileNetV2's 1x1 convolutions anywhere
    server  ONNX files of MobileNetV2 and ResNet50: median, 95th percentile and images per second by batch, threads and
            numbers, on the clock
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import gc
import pathlib
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks.files import File, Folder, runner, static_peers
from benchmarks.harness import Setting, each_step, milliseconds, per_round, run_parts, save, show
from benchmarks.networks import large, trained_resnet8
from benchmarks.serving import server
from tfcompress.channels.costs import total_multiply_adds as total
from tfcompress.export.tflite.sparse import Sparse

PEERS = {"TensorFlow int8": ".tflite", "ai-edge-quantizer int8": ".tflite", "ONNX Runtime int8": ".onnx"}
QUANTIZED = ("MobileNetV2", "ResNet50", "ResNet-8")
PRUNED = QUANTIZED[:2]
IMAGES = {"int8": 16, "pruned": 8}
"""To calibrate on: the ranges of these networks matter little for time."""
SHARE = 0.5
"""Of the channels, that are pruned."""
SPARSE: dict[str, Sparse] = {"dense": False, "auto": "auto", "sparse": True}
MILLISECONDS = {"networks": 100, "sparse": 5}
"""Of a turn of one file."""


def int8(setting: Setting) -> None:
    """Measure, print and save."""
    rows = []
    for name in QUANTIZED:
        files, x = made(name, setting.data, Folder(setting.cache / f"speed_{name}"))
        rows += beside_peers(name, files, x, setting.rounds)
        show(f"One inference, one thread, {name}", rows[-len(files) :])
    save("quantization_speed", rows, setting.command)


def made(name: str, folder: pathlib.Path, target: Folder) -> tuple[list[File], np.ndarray]:
    """Return all files of a network and an image; files that the cache has are not made again, but for our own."""
    low, high, side = (0, 255, 32) if name == "ResNet-8" else (-1, 1, 224)
    x = np.random.default_rng(0).uniform(low, high, (IMAGES["int8"], side, side, 3)).astype(np.float32)
    model = trained_resnet8(folder) if name == "ResNet-8" else large(name)
    quantized = tfc.quantize(model, "int8", x, batch_size=4)
    ours = target.ours("int8", quantized) + target.integer_io("int8", quantized)
    floats = target.ours("float32", model)
    known = [(way, target.name(way, suffix)) for way, suffix in PEERS.items()]
    if all(path.exists() for _, path in known):
        theirs = [File(way, path) for way, path in known]
    else:
        theirs = static_peers(target, model, floats[1].path, x)
    gc.collect()
    return floats + ours + theirs, x


def beside_peers(name: str, files: list[File], x: np.ndarray, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each file; ratios are taken round by round."""
    files = sorted(files, key=lambda file: file.format)
    times = timed(files, x, rounds)
    rows = []
    for file, taken in times.items():
        alike = [(other, t) for other, t in times.items() if other.format == file.format]
        (floating,) = (t for other, t in alike if other.way.endswith("float32"))
        # A file that takes integers has less to do.
        same = [(other, t) for other, t in alike if other.takes_integers == file.takes_integers]
        theirs = [t for other, t in same if not other.way.startswith("tfcompress")]
        best = min(theirs, key=lambda t: float(np.median(t)))
        rows.append(
            {
                "network": name,
                "format": file.format,
                "inputs": "int8" if file.takes_integers else "float32",
                "file": file.way,
                "bytes": file.path.stat().st_size,
                **milliseconds(taken),
                "faster than float32": f"{np.median(floating / taken):.2f}x",
                "time of the best peer's": f"{np.median(taken / best):.3f}",
            }
        )
    return rows


def pruned(setting: Setting) -> None:
    """Measure, print and save."""
    rows = []
    for name in PRUNED:
        rows += beside_whole(name, Folder(setting.cache / f"pruned_{name}"), setting.rounds)
        show(f"One inference, one thread, {name}", rows[-8:])
        save("pruning_speed", rows, setting.command)


def beside_whole(name: str, target: Folder, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each file; ratios are taken round by round."""
    x = np.random.default_rng(0).uniform(-1, 1, (IMAGES["pruned"], 224, 224, 3)).astype(np.float32)
    whole = tfc.strip(large(name))
    thin = tfc.shrink(tfc.prune_once(whole, SHARE, granularity="channel"))
    files: list[tuple[str, str, float, File]] = []
    for title, model in (("whole", whole), (f"{SHARE:.0%} of the channels less", thin)):
        share = total(model) / total(whole)
        for numbers, made in (("float32", model), ("int8", tfc.quantize(model, "int8", x, batch_size=4))):
            way = f"{numbers} {'whole' if model is whole else 'small'}"
            files += [(title, numbers, share, file) for file in target.ours(way, made, verify=False)]
            gc.collect()
        keras.backend.clear_session()
    times = timed([file for *_, file in files], x, rounds)
    rows = []
    for title, numbers, share, file in files:
        (before,) = (
            times[one]
            for base, kind, _, one in files
            if base == "whole" and kind == numbers and one.format == file.format
        )
        rows.append(
            {
                "network": name,
                "format": file.format,
                "numbers": numbers,
                "model": title,
                "multiplications %": f"{100 * share:.1f}",
                "bytes": file.path.stat().st_size,
                **milliseconds(times[file]),
                "faster": f"{np.median(before / times[file]):.2f}x",
            }
        )
    return rows


def timed(files: Sequence[File], x: np.ndarray, rounds: int) -> dict[File, np.ndarray]:
    """Return the milliseconds of each file in each round."""
    built = {file: runner(file.path, x) for file in files}
    return per_round(each_step(built, rounds, milliseconds=MILLISECONDS["networks"]))


def zeros(shape: tuple[int, ...], share: float, block: int, generator: np.random.Generator) -> np.ndarray:
    """Return a mask with `share` of its blocks of inputs (the last dimension but one) zero."""
    *first, inputs, outputs = shape
    kept = generator.random((*first, inputs // block, outputs)) >= share
    return np.repeat(kept, block, axis=-2)


def perceptron(share: float, block: int) -> keras.Model:
    """Return 784-1024-1024-10 with zeros in each kernel."""
    generator = np.random.default_rng(0)
    units = [keras.layers.Dense(n, activation=a) for n, a in ((1024, "relu"), (1024, "relu"), (10, None))]
    model = keras.Sequential([keras.Input((784,)), *units])
    for layer in model.layers:
        layer.kernel.assign(np.asarray(layer.kernel) * zeros(layer.kernel.shape, share, block, generator))
    return model


def mobilenet(share: float) -> keras.Model:
    """Return MobileNetV2 with zeros in its 1x1 convolutions."""
    generator = np.random.default_rng(0)
    model = keras.applications.MobileNetV2(weights=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1):
            layer.kernel.assign(np.asarray(layer.kernel) * zeros(layer.kernel.shape, share, 1, generator))
    return model


def with_zeros() -> Iterator[tuple[str, keras.Model, tuple[str, ...]]]:
    """Yield (name, model, in what numbers)."""
    whole = ("float32", "float16", "int8", "dynamic_int8")
    yield "MLP, 90 % in blocks of 16", perceptron(0.9, 16), whole
    yield "MLP, 96 % in blocks of 16", perceptron(0.96, 16), ("float32", "int8", "dynamic_int8")
    yield "MLP, 90 % anywhere", perceptron(0.9, 1), ("float32", "int8")
    yield "MobileNetV2, 80 % anywhere", mobilenet(0.8), ("float32", "float16", "int8")


def write(model: keras.Model, numbers: str, folder: pathlib.Path) -> list[tfc.Artifact]:
    """Return the dense and the sparse files of one model."""
    precision = "float16" if numbers == "float16" else "float32"
    if not numbers.startswith("float"):
        data = np.random.default_rng(0).normal(size=(16, *model.input_shape[1:])).astype("float32")
        model = tfc.quantize(model, numbers, data)
    return [
        tfc.export(model, folder / f"{way}.tflite", precision=precision, sparse=sparse, overwrite=True)
        for way, sparse in SPARSE.items()
    ]


def invocation(path: pathlib.Path) -> Callable[[], object]:
    """Return a function that runs a file on one thread, and neither sets inputs nor reads outputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    interpreter.set_tensor(taken["index"], np.random.default_rng(0).normal(size=taken["shape"]).astype("float32"))
    return interpreter.invoke


def sparse(setting: Setting) -> None:
    """Measure, print and save."""
    with tempfile.TemporaryDirectory() as folder:
        rows = beside_dense(pathlib.Path(folder), setting.rounds)
    save("sparse", rows, f"{setting.command} --rounds={setting.rounds}")


def beside_dense(folder: pathlib.Path, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each file; what tells a file its inputs and reads its outputs is not timed."""
    rows = []
    for name, model, kinds in with_zeros():
        for numbers in kinds:
            artifacts = write(model, numbers, folder)
            steps = {way: invocation(artifact.path) for way, artifact in zip(SPARSE, artifacts, strict=True)}
            times = per_round(each_step(steps, rounds, milliseconds=MILLISECONDS["sparse"]))
            for artifact, (way, taken) in zip(artifacts, times.items(), strict=True):
                rows.append(
                    {
                        "network": name,
                        "numbers": numbers,
                        "file": way,
                        "kB": f"{artifact.nbytes / 1000:,.1f}",
                        "zip kB": f"{len(zlib.compress(artifact.path.read_bytes(), 9)) / 1000:,.1f}",
                        "smaller": f"{artifacts[0].nbytes / artifact.nbytes:.2f}x",
                        "ms": f"{np.median(taken):.4f}",
                        "faster": f"{np.median(times['dense'] / taken):.2f}x",
                        "stored sparsely": artifact.notes[0].removeprefix("sparse: ") if artifact.notes else "",
                    }
                )
            show(f"{name}, {numbers}", [{key: row[key] for key in list(row)[2:8]} for row in rows[-len(SPARSE) :]])
    return rows


if __name__ == "__main__":
    run_parts(
        "inference",
        __doc__,
        {"int8": int8, "pruned": pruned, "sparse": sparse, "server": server},
        rounds=31,
        needed={"int8": ("resnet8_cifar10_jpeg.keras",)},
        selective=("server",),
    )
