"""python -m benchmarks.budget [--part=budgets|resnet8|rescues|peers|allocation] [--data=../shared/data] [--only=...]

Do budgets hold that `tfc.compress` says hold? Goes on where it was cut short: "processor s" of a row with "resumed" are
those of its last call only.

    budgets  60 random budgets on four networks: what is shipped, judged once more on test data that no search has seen;
             hours; writes benchmarks/results/budget_random.json
    resnet8  half a point on CIFAR-10: bytes beside int8's, mean width, seconds; writes budget_resnet8.json
    rescues  networks whose plain int8 files lose much elsewhere, within half a point; writes budget_rescues.json
    peers    what peers' own debugging of accuracy ends with on these networks, within half a point, too, beside the
             rows of budget_rescues.json; writes budget_peers.json
    allocation  which layer of MobileNetV2 gets what: processor seconds, on generated data; writes
             budget_allocation.json
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

import tfcompress as tfc
from benchmarks import data
from benchmarks.data import Arrays
from benchmarks.debugging_peers import ai_edge, onnx_runtime
from benchmarks.harness import FOLDER, Setting, clocks, collected, rows_of, run_parts, show
from benchmarks.networks import kept, lenet, trained_resnet8, trained_small
from benchmarks.wild import detection_loss, detector, table_model
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.core.wrappers import inner_weights
from tfcompress.quantization.weights.uniform import WeightQuantizer
from tfcompress.search.judge import Judge
from tfcompress.search.trials import STATE
from tfcompress.search.tries import Try

BUDGETS = 60
LEAST, MOST = 0.3, 3.0
"""Points, drawn evenly by their logarithm."""

HALF = 0.5
"""Points."""

CALIBRATION = 256
"""Samples that peers are given to calibrate with."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """A network and its data.

    Attributes:
        model: trained.
        train: (x, y) that it was trained with.
        validation: for a search.
        test: that no search sees.
        metric: as `tfc.compress` takes it.
    """

    model: keras.Model
    train: Arrays
    validation: Arrays
    test: Arrays
    metric: Any = None

    def search(self, folder: pathlib.Path, max_drop: float, **how: Any) -> tfc.Result:
        """Search in a folder, where it goes on."""
        given: dict[str, Any] = {"data": self.train, "validation": self.validation, "metric": self.metric}
        return tfc.compress(self.model, **given, max_drop=max_drop, output_dir=folder, **how)

    def timed(self, folder: pathlib.Path, max_drop: float, **how: Any) -> tuple[tfc.Result, dict[str, Any]]:
        """Search in a folder; return the result, and how long it took: a search that goes on, since it was resumed."""
        resumed = (folder / STATE).exists()
        before = clocks()[1]
        result = self.search(folder, max_drop, **how)
        took = {"processor s": round(clocks()[1] - before), "tries": len(result.tries)}
        return result, {**took, "resumed": True} if resumed else took

    def judged(self, result: tfc.Result) -> dict[str, Any]:
        """Return for each format what was shown, and what the test data says of it."""
        judge = Judge(self.model, self.test, self.metric)
        found: dict[str, Any] = {}
        for form in result.formats:
            if form not in result.artifacts:
                found[form] = "not shown"
                continue
            shown, seen = result.judgements[form], judge(result.artifacts[form].path, result.budget)
            found[form] = f"{result.artifacts[form].nbytes:,}"
            found[f"{form} drop shown"] = _interval(shown)
            found[f"{form} drop in test"] = _interval(seen)
            found[f"{form} broken in test"] = seen.verdict == "broken"
        return found


def _interval(judgement: tfc.Judgement) -> str:
    low, high = judgement.interval
    return f"{judgement.drop:.2f} [{low:.2f}, {high:.2f}]"


def _halves(test: Arrays) -> tuple[Arrays, Arrays]:
    """Return validation and test data: the even and the odd samples."""
    (x, y) = test
    return (x[::2], y[::2]), (x[1::2], y[1::2])


def small_mnist(setting: Setting) -> Problem:
    """Return the small convolutional network on MNIST."""
    train, test = data.mnist(setting.data)
    return Problem(trained_small(train, setting.cache), train, *_halves(test))


def lenet_mnist(setting: Setting) -> Problem:
    """Return LeNet-300-100 on MNIST, trained for three epochs."""
    train, test = data.mnist(setting.data)
    return Problem(
        _trained(setting, "lenet_300_100", lambda: lenet("LeNet-300-100"), train, epochs=3), train, *_halves(test)
    )


def resnet_cifar(setting: Setting) -> Problem:
    """Return ResNet-8 on CIFAR-10."""
    train, test = data.cifar10(setting.data)
    return Problem(trained_resnet8(setting.data), train, *_halves(test))


def tones(count: int, seed: int) -> Arrays:
    """Return spectrograms of 49 steps and 10 bands, of tones that move in one of 12 ways, in noise."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 12, count)
    step, band = np.arange(49)[None, :, None], np.arange(10)[None, None, :]
    speed = (label % 4 - 1.5)[:, None, None] * 0.06
    begin = (2 + 2.5 * (label // 4))[:, None, None] + random.uniform(-0.7, 0.7, (count, 1, 1))
    x = np.exp(-(((band - begin - speed * step) / 1.2) ** 2)) * random.uniform(0.4, 1, (count, 1, 1))
    return (x + random.normal(0, 0.7, x.shape)).astype(np.float32)[..., None], label.astype(np.int32)


def ds_cnn_tones(setting: Setting) -> Problem:
    """Return a network like DS-CNN, of 24 filters, on tones."""

    def build() -> keras.Model:
        def normalized(x: Any) -> Any:
            return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

        inputs = keras.Input((49, 10, 1))
        x = normalized(layers.Conv2D(24, (10, 4), 2, padding="same", use_bias=False)(inputs))
        for _ in range(2):
            x = normalized(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x))
            x = normalized(layers.Conv2D(24, 1, padding="same", use_bias=False)(x))
        return keras.Model(inputs, layers.Dense(12)(layers.GlobalAveragePooling2D()(x)))

    train = tones(4000, 0)
    return Problem(_trained(setting, "ds_cnn_tones", build, train, epochs=12), train, tones(4500, 1), tones(6000, 2))


def _trained(
    setting: Setting, name: str, build: Callable[[], keras.Model], train: Arrays, *, epochs: int, loss: Any = None
) -> keras.Model:
    """Return a network that is trained once."""

    def make() -> keras.Model:
        keras.utils.set_random_seed(0)
        model = build()
        how = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(3e-3 if epochs > 3 else 1e-3), how)
        model.fit(train[0].astype(np.float32), train[1], batch_size=64, epochs=epochs, verbose=0)
        return model

    return kept(setting.cache / f"budget_{name}.keras", make)


PROBLEMS: dict[str, Callable[[Setting], Problem]] = {
    "MNIST, small": small_mnist,
    "MNIST, LeNet-300-100": lenet_mnist,
    "tones, DS-CNN": ds_cnn_tones,
    "CIFAR-10, ResNet-8": resnet_cifar,
}


def budgets(setting: Setting) -> None:
    """Search within random budgets without training; print and save."""
    random = np.random.default_rng(0)
    drawn = np.exp(random.uniform(np.log(LEAST), np.log(MOST), BUDGETS)).round(2)
    made = functools.cache(lambda name: PROBLEMS[name](setting))
    rows = []
    for number, budget in enumerate(drawn):
        name = list(PROBLEMS)[number % len(PROBLEMS)]

        def figures(name: str = name, budget: float = float(budget), number: int = number) -> dict[str, Any]:
            folder = setting.cache / "budgets" / str(number)
            try:
                result, took = made(name).timed(folder, budget, seed=number, train=False)
            except ValueError as error:
                return {"refused": str(error)}
            return {**made(name).judged(result), **took}

        key = {"network": name, "budget": float(budget), "seed": number}
        if name in setting.chosen(PROBLEMS):
            rows.append(collected("budget_random", setting.command, key, figures))
    show("Random budgets", [{"network": row["network"], "budget": row["budget"], **_short(row)} for row in rows])
    print(
        "broken in test:", sum(bool(row.get(f"{form} broken in test")) for row in rows for form in ("tflite", "onnx"))
    )


def _short(row: dict[str, Any]) -> dict[str, Any]:
    names = [f"{form}{what}" for form in ("tflite", "onnx") for what in ("", " drop shown", " drop in test")]
    return {name: row.get(name, "-") for name in names}


def resnet8(setting: Setting) -> None:
    """Search within half a point, all test data being for validation; print and save."""

    def figures() -> dict[str, Any]:
        train, test = data.cifar10(setting.data)
        problem = Problem(trained_resnet8(setting.data), train, test, test)
        result, row = problem.timed(setting.cache / "budget_resnet8", HALF)
        int8 = tfc.quantize(problem.model, "int8", train[0][:512].astype(np.float32))
        for form, artifact in result.artifacts.items():
            plain = tfc.export(int8, setting.cache / f"budget_resnet8_int8.{form}", overwrite=True)
            row[f"{form} bytes"] = artifact.nbytes
            row[f"{form} of int8's"] = round(artifact.nbytes / plain.nbytes, 3)
            row[f"{form} drop shown"] = _interval(result.judgements[form])
            tried = next(one for one in result.tries if _is_of(one.file(form), artifact))
            row[f"{form} try"] = tried.name
            row[f"{form} mean bits"] = _mean_bits(tried)
        return row

    row = collected("budget_resnet8", setting.command, {"network": "ResNet-8", "budget": HALF}, figures)
    show("ResNet-8 within half a point", [{"what": name, "figure": str(value)} for name, value in row.items()])


def _mean_bits(tried: Try) -> float | None:
    """Return the mean width of the weights of kernels, by the model behind a file; `None`: it has no integers."""
    widths = [
        (transform.spec.bits, inner_weights(layer)[position].shape)
        for layer in wrapped_layers(keras.models.load_model(tried.model, compile=False))
        for position, transform in layer.transforms
        if isinstance(transform, WeightQuantizer)
    ]
    sizes = [math.prod(shape) for _, shape in widths]
    if not sizes:
        return None
    return round(sum(bits * size for (bits, _), size in zip(widths, sizes, strict=True)) / sum(sizes), 2)


def _is_of(file: Any, artifact: tfc.Artifact) -> bool:
    return file is not None and file.path.read_bytes() == artifact.path.read_bytes()


def table_of_columns(setting: Setting) -> Problem:
    """Return a table with columns of 1 to 36,000, normalized in the model."""
    samples = [data.table(np.random.default_rng(seed)) for seed in range(3)]
    train, validation, test = ((one.x[0], one.y) for one in samples)

    return Problem(
        _trained(setting, "table", lambda: table_model(samples[0]), train, epochs=20), train, validation, test
    )


def boxes_and_scores(setting: Setting) -> Problem:
    """Return a detector; a picture is found if its class is, and its corners are within 40 of 600 pixels."""
    samples = [data.shapes(np.random.default_rng(seed)) for seed in range(3)]
    train, validation, test = ((one.x[0], one.y) for one in samples)
    model = _trained(setting, "detector", lambda: detector(samples[0]), train, epochs=20, loss=detection_loss)
    return Problem(model, train, validation, test, found)


def found(y: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Return of each picture whether what is in it is found."""
    near = np.abs(y[:, :4] - output[:, :4]).max(axis=1) < 40
    return near & (y[:, 4:].argmax(1) == output[:, 4:].argmax(1))


def twelve_branches(setting: Setting) -> Problem:
    """Return twelve branches of thousands beside few small numbers, which decide as much."""

    def samples(count: int, seed: int) -> Arrays:
        random = np.random.default_rng(seed)
        x = random.normal(size=(count, 18)).astype(np.float32)
        return x, ((x[:, 0] + x[:, 1] > 0) ^ (x[:, 16] > 0)).astype(np.int32)

    def build() -> keras.Model:
        inputs = keras.Input((18,))
        large, small = inputs[:, :16], inputs[:, 16:]
        how = {"bias_initializer": keras.initializers.Constant(-1400.0)}
        wide = [keras.initializers.RandomNormal(0, 300, seed=place) for place in range(12)]
        branches = [layers.Dense(8, kernel_initializer=each, **how)(large) for each in wide]
        joined = layers.Concatenate(name="joined")([layers.Maximum(name="largest")(branches), small])
        x = layers.BatchNormalization(momentum=0.9, name="norm")(joined)
        for width in (32, 32):
            x = layers.Dense(width, "relu")(x)
        return keras.Model(inputs, layers.Dense(2)(x))

    train = samples(4000, 0)
    model = _trained(setting, "twelve_branches", build, train, epochs=30)
    return Problem(model, train, samples(4500, 1), samples(6000, 2))


RESCUES = {"table": table_of_columns, "detector": boxes_and_scores, "twelve branches": twelve_branches}


def rescues(setting: Setting) -> None:
    """Bring networks of which int8 files elsewhere lose much within half a point; print and save."""
    rows = []
    for name in setting.chosen(RESCUES):

        def figures(name: str = name) -> dict[str, Any]:
            problem = RESCUES[name](setting)
            result, took = problem.timed(setting.cache / f"rescue_{name.replace(' ', '_')}", HALF)
            judge = Judge(problem.model, problem.validation, problem.metric)
            first = next(one for one in result.tries if one.name == "int8")
            plain = {f"int8 .{file.format} drop": round(judge(file.path).drop, 2) for file in first.files}
            return {**plain, **problem.judged(result), **took}

        rows.append(collected("budget_rescues", setting.command, {"network": name, "budget": HALF}, figures))
    show("Rescues", [{"network": row["network"], **_short(row)} for row in rows])


def peers(setting: Setting) -> None:
    """Let the loops of peers leave float what hurts, until half a point is kept; print and save."""
    rows = []
    for name in setting.chosen(RESCUES):
        for peer in ("ONNX Runtime", "ai-edge-quantizer"):

            def figures(name: str = name, peer: str = peer) -> dict[str, Any]:
                return _debugged(RESCUES[name](setting), peer, setting.cache / f"peers_{name.replace(' ', '_')}")

            key = {"network": name, "by": peer, "most": HALF}
            rows.append(collected("budget_peers", setting.command, key, figures))
    known = rows_of("budget_rescues") if (FOLDER / "budget_rescues.json").exists() else []
    for row in known:
        for form in ("onnx", "tflite"):
            said = {"file": f".{form}", "bytes": row[form], "drop": row.get(f"{form} drop in test", "-")}
            rows.append({"network": row["network"], "by": "tfcompress", **said})
    columns = ("network", "by", "file", "bytes", "operators float", "drop")
    show("What debugging ends with", [{column: row.get(column, "-") for column in columns} for row in rows])


def _debugged(problem: Problem, peer: str, folder: pathlib.Path) -> dict[str, Any]:
    """Return what the loop of a peer ends with, judged on the data that a search of ours is given."""
    folder.mkdir(parents=True, exist_ok=True)
    judge = Judge(problem.model, problem.validation, problem.metric)
    calibration = problem.train[0][:CALIBRATION].astype(np.float32)
    form = "onnx" if peer == "ONNX Runtime" else "tflite"
    floats = tfc.export(problem.model, folder / f"float.{form}", overwrite=True).path
    path = folder / f"debugged.{form}"
    before = clocks()[1]
    how: dict[str, Any] = {"path": path, "judge": lambda file: judge(file).drop, "most": HALF}
    if form == "onnx":
        count, drop = onnx_runtime(floats, calibration, **how)
    else:
        count, drop = ai_edge(floats.read_bytes(), calibration, **how)
    return {
        "file": f".{form}",
        "bytes": f"{path.stat().st_size:,}",
        "of float's": round(path.stat().st_size / floats.stat().st_size, 3),
        "operators float": count,
        "drop": round(drop, 2),
        "processor s": round(clocks()[1] - before),
    }


def allocation(setting: Setting) -> None:
    """Allocate widths, zeros and tables in MobileNetV2 with random weights, on generated pictures; print and save."""
    rows = []
    for pixels, size in ((96, "1.5MB"), (224, "1.5MB")):

        def figures(pixels: int = pixels, size: str = size) -> dict[str, Any]:
            keras.utils.set_random_seed(0)
            model = keras.applications.MobileNetV2((pixels, pixels, 3), weights=None)
            x = np.random.default_rng(0).normal(size=(16, pixels, pixels, 3)).astype(np.float32)
            before = clocks()[1]
            found = tfc.allocate(model, x, size=size)
            return {
                "processor s": round(clocks()[1] - before),
                "integer programme s": round(found.seconds, 2),
                "gap": found.gap,
                **{f"{form} bytes": nbytes for form, nbytes in found.nbytes.items()},
                "mean bits": round(found.mean_bits, 2),
            }

        key = {"network": "MobileNetV2", "pixels": pixels, "samples": 16, "size": size}
        rows.append(collected("budget_allocation", setting.command, key, figures))
    show("Which layer gets what", rows)


if __name__ == "__main__":
    run_parts(
        "budget",
        __doc__,
        {"budgets": budgets, "resnet8": resnet8, "rescues": rescues, "peers": peers, "allocation": allocation},
        needed={"budgets": ("mnist.npz", "cifar10_jpeg.npz"), "resnet8": ("cifar10_jpeg.npz",)},
        selective=("budgets", "rescues", "peers"),
    )
