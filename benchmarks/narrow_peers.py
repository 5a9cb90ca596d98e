"""Weights of 4 and 2 bits beside what ai-edge-quantizer and ONNX Runtime make of the same float weights and images."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data, peers
from benchmarks.coded import form_of_largest
from benchmarks.files import NOTHING, Folder, accuracy, outputs, runner
from benchmarks.harness import FOLDER, Setting, cached, each_step, per_round, rows_of, save, show
from benchmarks.networks import large, trained_perceptron, trained_resnet8
from tfcompress.evaluation.file_constants import bytes_by_dtype
from tfcompress.evaluation.open_predictor import open_predictor

IMAGES = 512
"""To calibrate with, and to round by."""
NAME = "compression_peers"
TURN = 20.0
"""Milliseconds of a turn of one file."""
LEAST = 0.05
"""Of the bytes of a file's constants, that a dtype has which is named."""

Recipe = str | tfc.QuantizeConfig

OURS: dict[str, Recipe] = {
    "int8": "int8",
    "w4a8": "w4a8",
    "w4a8, AdaRound": "w4a8",
    "dynamic_int4": "dynamic_int4",
    "int4_weights": "int4_weights",
    "int4_blockwise": "int4_blockwise",
    "int2_weights": "int2_weights",
    "int2_weights, range='mse'": tfc.QuantizeConfig(tfc.WeightSpec(bits=2, range="mse"), activations=None),
}
"""All recipes; int8 is what the others' time is compared with."""
ROUNDED, BLOCKS = "w4a8, AdaRound", "int4_blockwise"
DATA_FREE = [way for way in OURS if way.startswith(("dynamic", "int4", "int2"))]
KIND = {".tflite": "TFLite", ".onnx": "ONNX"}
FORMS: tuple[tuple[str, dict[str, Any]], ...] = (
    (".tflite", {}),
    (".tflite", {"prefer": "size"}),
    (".onnx", {}),
    (".onnx", {"weights": "coded"}),
    (".onnx", {"weights": "auto"}),
)
"""How each model but that of int8 is exported; plainly to ONNX of those of 4 bits one, which has the bytes of int8."""
AI_EDGE = (
    "static_wi4_ai8",
    "dynamic_wi4_afp32",
    "weight_only_wi4_afp32",
    "dynamic_wi4b32_afp32",
    "dynamic_wi2c_afp32",
    "weight_only_wi2_afp32",
)
"""Recipes of ai-edge-quantizer, or such as it lacks: `static_wi4_ai8` and `weight_only_wi2_afp32`."""
MATMUL = ((4, None), (4, 4), (2, None), (2, 4))
"""Bits and accuracy_level of ONNX Runtime's MatMulNBits."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        model: Float.
        images: To calibrate with.
        test: Images and labels; `None`: the weights are random.
        also: Which recipe of ours is measured of this network alone.
    """

    model: keras.Model
    images: np.ndarray
    test: data.Arrays | None = None
    also: str = ""


@dataclasses.dataclass(frozen=True)
class Made:
    """A file, or why there is none.

    Attributes:
        way: Who made it and how.
        format: TFLite or ONNX.
        path: Where it is; `None`: it was refused.
        said: Why; or how the largest weight of a coded file is stored.
    """

    way: str
    format: str
    path: pathlib.Path | None
    said: str = ""


def perceptron(setting: Setting) -> Case:
    """Return the perceptron that was trained on MNIST."""
    train, test = data.mnist(setting.data)
    model = trained_perceptron(
        (data.flat(train[0]), train[1]), setting.cache / "compression_tflite" / "perceptron_mnist.keras"
    )
    return Case(model, data.flat(train[0][:IMAGES]), (data.flat(test[0]), test[1]), also=BLOCKS)


def resnet(setting: Setting) -> Case:
    """Return ResNet-8 that was trained on CIFAR-10."""
    train, test = data.cifar10(setting.data)
    images, x = (given[0].astype(np.float32) for given in (train, test))
    return Case(trained_resnet8(setting.data), images[:IMAGES], (x, test[1]), also=ROUNDED)


def mobilenet(setting: Setting) -> Case:
    """Return MobileNetV2 with random weights."""
    return Case(large("MobileNetV2"), np.random.default_rng(0).uniform(-1, 1, (8, 224, 224, 3)).astype(np.float32))


NETWORKS: dict[str, Callable[[Setting], Case]] = {
    "784-1024-1024-10": perceptron,
    "ResNet-8": resnet,
    "MobileNetV2": mobilenet,
}


def beside_peers(setting: Setting) -> None:
    """Measure, print and save; a network's rows are kept as soon as it is done, and peers' files are made once."""
    for network in setting.chosen(NETWORKS):
        case = NETWORKS[network](setting)
        folder = Folder(setting.cache / "compression_peers" / network)
        made = [*ours(folder, case), *theirs(folder, case)]
        rows = [row for kind in ("TFLite", "ONNX") for row in measured(network, kind, made, case, setting)]
        show(f"Few bits beside peers, {network}", rows)
        known = rows_of(NAME) if (FOLDER / f"{NAME}.json").exists() else []
        kept = {other: [row for row in known if row["network"] == other] for other in NETWORKS} | {network: rows}
        save(NAME, [row for each in kept.values() for row in each], f"{setting.command} --rounds={setting.rounds}")


def ours(folder: Folder, case: Case) -> Iterator[Made]:
    """Yield our files; what has the bytes of the file before it is left out."""
    for way, recipe in OURS.items():
        if way in {ROUNDED, BLOCKS} - {case.also}:
            continue
        images = None if way in DATA_FREE else case.images
        rounding = tfc.AdaRound(folder=folder.path / "adaround") if way == ROUNDED else "nearest"
        quantized = tfc.quantize(case.model, recipe, images, rounding=rounding)
        last = b""
        for suffix, wished in FORMS:
            if (wished and way == "int8") or (suffix == ".onnx" and not wished and way not in ("int8", "w4a8")):
                continue
            wishes = "".join(f", {key}={value!r}" for key, value in wished.items())
            path = folder.name(f"ours {way}{wishes}", suffix)
            artifact = tfc.export(quantized, path, overwrite=True, **wished)
            if path.read_bytes() != last:
                stored = form_of_largest(artifact) if wished == {"weights": "coded"} else ""
                yield Made(f"tfcompress {way}{wishes}", KIND[suffix], path, stored)
            last = path.read_bytes()


def theirs(folder: Folder, case: Case) -> Iterator[Made]:
    """Yield the float files, and what the peers make of them or refuse."""
    small = attempt(folder, "float32", ".tflite", lambda: peers.tensorflow_float(case.model))
    floats = folder.name("float32", ".onnx")
    if not floats.exists():
        tfc.export(case.model, floats, opset=21)
    yield from (small, Made("float32", "ONNX", floats))
    assert small.path is not None
    for recipe in AI_EDGE:
        images = case.images if recipe.startswith("static") else None
        make = functools.partial(peers.ai_edge, small.path.read_bytes(), recipe, images)
        yield attempt(folder, f"ai-edge-quantizer {recipe}", ".tflite", make)
    make = functools.partial(peers.onnx_runtime, floats, case.images, weight_type="QInt4")
    yield attempt(folder, "ONNX Runtime quantize_static, QInt4", ".onnx", make)
    for bits, level in MATMUL:
        way = f"ONNX Runtime MatMulNBits, {bits} bits" + (f", accuracy_level={level}" if level else "")
        yield attempt(folder, way, ".onnx", functools.partial(peers.onnx_runtime_matmul, floats, bits, level))


def attempt(folder: Folder, way: str, suffix: str, make: Callable[[], bytes]) -> Made:
    """Return a peer's file, which is made once; or the first words of its refusal."""
    format, path = KIND[suffix], folder.name(way, suffix)
    try:
        if not path.exists():
            folder.peer(way, suffix, make())
        open_predictor(path)
    except ImportError:
        raise
    except Exception as error:  # a peer's own, of any kind
        print(f"FAILED: {way}: {error}", file=sys.stderr)
        return Made(way, format, None, f"refused: {str(error).splitlines()[0].rpartition('Error: ')[2]}")
    return Made(way, format, path)


def measured(network: str, format: str, made: list[Made], case: Case, setting: Setting) -> list[dict[str, Any]]:
    """Return a row for each file of a format; they are timed in turns, on one thread."""
    chosen = [one for one in made if one.format == format]
    steps = {one.way: runner(one.path, case.images) for one in chosen if one.path}
    times = per_round(each_step(steps, setting.rounds, milliseconds=TURN))
    rows = []
    for one in chosen:
        row: dict[str, Any] = {"network": network, "format": format, "file": one.way}
        if one.path is None:
            rows.append({**row, **dict.fromkeys(("bytes", "ms", "time", "accuracy %"), NOTHING), "stored as": one.said})
        else:
            taken = times[one.way]
            row |= {"bytes": one.path.stat().st_size, "ms": f"{np.median(taken):.{4 if np.median(taken) < 1 else 2}f}"}
            row |= {"time": f"{np.median(taken / times['tfcompress int8']):.2f}"}
            row["accuracy %"] = percent(one.path, case.test, setting.cache)
            rows.append({**row, "stored as": one.said or stored_in(one.path)})
    return rows


def stored_in(path: pathlib.Path) -> str:
    """Return the dtypes of a file's constants, as far as they have many bytes."""
    found = bytes_by_dtype(path)
    shares = {dtype: size / sum(found.values()) for dtype, size in sorted(found.items(), key=lambda one: -one[1])}
    return ", ".join(f"{dtype} {share:.0%}" for dtype, share in shares.items() if share >= LEAST)


def percent(path: pathlib.Path, test: data.Arrays | None, cache: pathlib.Path) -> str:
    """Return the accuracy of a file, found once."""
    if test is None:
        return NOTHING
    x, y = test
    known = cache / "compression_peers" / f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.json"
    return f"{cached(known, lambda: {'accuracy': accuracy(outputs(path, x), y)})['accuracy']:.2f}"
