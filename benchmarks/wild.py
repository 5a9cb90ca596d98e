"""python -m benchmarks.wild [--part=networks|demo] [--only=table,digits]

Does what people have come through whole? Takes minutes.

    networks  small networks by kind, trained in seconds on generated data or scikit-learn's digits: float, quantized,
              as files, beside TensorFlow's converter and ONNX Runtime on the same calibration data; adds what isn't
              there yet to benchmarks/results/wild.json
    demo      the main job on scikit-learn's digits, as `make demo` runs it; writes benchmarks/results/digits.json
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import dataclasses
import functools
import pathlib
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

import tfcompress as tfc
from benchmarks import data, peers
from benchmarks.data import CLASSES, ITEMS, LENGTH, SIDE, USERS, WORDS, Samples
from benchmarks.files import NOTHING, accuracy
from benchmarks.harness import Setting, collected, in_a_process, run_parts, save, show
from tfcompress.evaluation.open_predictor import open_predictor
from tfcompress.evaluation.predictor import predict
from tfcompress.pipeline import digits
from tfcompress.recipes import run
from tfcompress.recipes.compress_job import recipe_of

CALIBRATION = 256
PEERS = {"TensorFlow": ".tflite", "ONNX Runtime": ".onnx"}


@dataclasses.dataclass(frozen=True)
class Network:
    """A kind of network.

    Attributes:
        title: What the table calls it.
        metric: Of `METRICS`.
        data: Makes the data from a random generator.
        build: Makes the model, untrained, from the data.
        loss: To train it with.
        epochs: How long.
    """

    title: str
    metric: str
    data: Callable[[np.random.Generator], Samples]
    build: Callable[[Samples], keras.Model]
    loss: Any
    epochs: int = 20


def error(y: np.ndarray, output: np.ndarray) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.mean((output.astype(np.float64).reshape(y.shape) - y) ** 2)))


def correlation(y: np.ndarray, output: np.ndarray) -> float:
    """Return the correlation with the targets, of the column where it is least; 0 of a column that is constant."""
    y, output = y.reshape(len(y), -1), output.astype(np.float64).reshape(len(y), -1)
    columns = zip(y.T, output.T, strict=True)
    return min(float(np.corrcoef(*pair)[0, 1]) if np.ptp(pair[1]) else 0.0 for pair in columns)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy %": lambda y, output: accuracy(output, y),
    "RMSE": error,
    "correlation": correlation,
}


def table_model(samples: Samples) -> keras.Model:
    """Return a network that normalizes its columns itself."""
    normalization = layers.Normalization()
    normalization.adapt(samples.train[0])
    stack = [normalization, layers.Dense(32, "relu"), layers.Dense(32, "relu"), layers.Dense(2)]
    return keras.Sequential([keras.Input((4,)), *stack])


def detector(samples: Samples) -> keras.Model:
    """Return a network whose output holds boxes in pixels beside scores."""
    given = keras.Input((SIDE, SIDE, 1))
    x = given
    for filters, strides in ((16, 1), (32, 2), (32, 2)):
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dense(64, "relu")(layers.Flatten()(x))
    positive = {"kernel_initializer": "zeros", "bias_initializer": keras.initializers.Constant(0.5)}  # no ReLU dies
    boxes = layers.Rescaling(600.0)(layers.Dense(4, "relu", **positive)(x))
    return keras.Model(given, layers.Concatenate(name="detections")([boxes, layers.Dense(CLASSES, "sigmoid")(x)]))


def detection_loss(y: Any, output: Any) -> Any:
    """Return the squared error of boxes beside the cross-entropy of scores."""
    boxes = keras.ops.mean(keras.ops.square((y[:, :4] - output[:, :4]) / 600), axis=-1)
    return 5 * boxes + keras.losses.binary_crossentropy(y[:, 4:], output[:, 4:])


def regression(samples: Samples) -> keras.Model:
    """Return a small dense network with one output."""
    stack = [layers.Dense(32, "relu"), layers.Dense(32, "relu"), layers.Dense(1)]
    return keras.Sequential([keras.Input((4,)), *stack])


def convolved_text(samples: Samples) -> keras.Model:
    """Return an embedding with convolutions behind."""
    stack = [
        layers.Embedding(WORDS, 16),
        layers.Conv1D(64, 2, activation="relu"),
        layers.GlobalMaxPooling1D(),
        layers.Dense(32, "relu"),
        layers.Dense(CLASSES, "softmax"),
    ]
    return keras.Sequential([keras.Input((LENGTH,), dtype="int32"), *stack])


def attention(samples: Samples) -> keras.Model:
    """Return one block of a transformer over words, padding masked."""
    given = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(WORDS, 32, mask_zero=True)(given)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 16)(x, x))
    x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, "gelu")(x)))
    return keras.Model(given, layers.Dense(CLASSES, "softmax")(layers.GlobalAveragePooling1D()(x)))


def dilated(samples: Samples) -> keras.Model:
    """Return residual blocks of dilated causal convolutions over a wave."""
    given = keras.Input((samples.x[0].shape[1], 1))
    x = layers.Conv1D(24, 16, strides=4, padding="same", activation="relu")(given)
    for dilation in (1, 2, 4, 8):
        y = layers.Conv1D(24, 3, padding="causal", dilation_rate=dilation, use_bias=False)(x)
        x = layers.Add()([x, layers.ReLU()(layers.BatchNormalization()(y))])
    return keras.Model(given, layers.Dense(CLASSES, "softmax")(layers.GlobalAveragePooling1D()(x)))


def recurrent(samples: Samples) -> keras.Model:
    """Return a GRU with a dense layer behind."""
    stack = [layers.GRU(24), layers.Dense(1)]
    return keras.Sequential([keras.Input(samples.x[0].shape[1:]), *stack])


def digits_model(samples: Samples) -> keras.Model:
    """Return a small convolutional network that scales pixels to -1..1 itself."""
    stack = [
        layers.Rescaling(1 / 127.5, offset=-1.0),
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(10),
    ]
    return keras.Sequential([keras.Input((8, 8, 1)), *stack])


def towers(samples: Samples) -> keras.Model:
    """Return two towers of an embedding and dense layers, and the cosine of what they make."""
    given, made = [], []
    for name, count in zip(samples.names, (USERS, ITEMS), strict=True):
        given.append(keras.Input((1,), dtype="int32", name=name))
        x = layers.Dense(32, "relu")(layers.Flatten()(layers.Embedding(count, 16)(given[-1])))
        made.append(layers.Dense(8)(x))
    return keras.Model(given, layers.Dot(axes=1, normalize=True)(made))


LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PROBABILITIES = "sparse_categorical_crossentropy"

NETWORKS = {
    "table": Network("table, columns of 1 to 36,000", "accuracy %", data.table, table_model, LOGITS),
    "detector": Network("boxes beside scores", "correlation", data.shapes, detector, detection_loss),
    "regression": Network("log-normal targets", "RMSE", data.prices, regression, "mse", 40),
    "convolved_text": Network("text, Conv1D", "accuracy %", data.phrases, convolved_text, PROBABILITIES),
    "attention": Network("text, attention", "accuracy %", data.topics, attention, PROBABILITIES, 8),
    "dilated": Network("sound, dilated Conv1D", "accuracy %", data.sounds, dilated, PROBABILITIES, 15),
    "recurrent": Network("time series, GRU", "RMSE", data.series, recurrent, "mse"),
    "digits": Network("digits, p / 127.5 - 1", "accuracy %", data.pixels, digits_model, LOGITS, 15),
    "towers": Network("two towers, cosine", "correlation", data.ratings, towers, "mse"),
}


def trained(name: str) -> tuple[keras.Model, Samples]:
    """Return a trained network and its data, by the same seed each time."""
    keras.utils.set_random_seed(0)
    network = NETWORKS[name]
    samples = network.data(np.random.default_rng(0))
    model = network.build(samples)
    model.compile(keras.optimizers.Adam(3e-3), network.loss)
    model.fit(
        samples.packed(samples.train), samples.y[: -samples.tested], batch_size=64, epochs=network.epochs, verbose=0
    )
    return model, samples


def networks(setting: Setting) -> None:
    """Measure what is not yet known; print and save."""
    rows = []
    for name in setting.chosen(NETWORKS):
        key = {"network": NETWORKS[name].title, "metric": NETWORKS[name].metric}
        rows.append(collected("wild", setting.command, key, functools.partial(measure, name)))
    show("Networks by kind", rows)


def measure(name: str) -> dict[str, Any]:
    """Return the figures of a network."""
    model, samples = trained(name)
    metric = NETWORKS[name].metric
    row: dict[str, Any] = {"float": score(model, samples, metric)}
    calibration = [array[:CALIBRATION] for array in samples.train]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        quantized = tfc.quantize(model, "int8", data=samples.packed(calibration))
    for warning in told:
        if warning.category is UserWarning:
            print(f"{name}: {warning.message}", file=sys.stderr)
    row["int8 Keras"] = score(quantized, samples, metric)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for label, suffix in (("TFLite", ".tflite"), ("ONNX", ".onnx")):
            path = folder / f"ours{suffix}"
            artifact = tfc.export(quantized, path, verify=samples.packed(calibration))
            print(f"{name}: {artifact}", file=sys.stderr)
            (found,) = tfc.verify(quantized, path, samples.packed(samples.test)).outputs
            row[label] = score(path, samples, metric)
            row[f"{label}: steps off"] = (
                round(found.max_steps) if found.max_steps is not None else f"({found.max_rel:.1e})"
            )
        tfc.save(model, folder / "float.keras")
        tfc.export(model, folder / "float.onnx")
        np.savez(
            folder / "data.npz", *samples.x, y=samples.y, tested=samples.tested, names=np.array(samples.names, str)
        )
        for way in PEERS:
            row[way] = judged_apart(way, name, folder)
    return row


def judged_apart(way: str, name: str, folder: pathlib.Path) -> Any:
    """Return a peer's figure, or that it fails; the process that it may end is another."""
    try:
        return in_a_process("wild", "--here=peer", way, name, str(folder))
    except SystemExit as error:
        print(error, file=sys.stderr)
        return "fails"


def peer(way: str, name: str, where: str) -> Any:
    """Return the figure of a peer's file, made of the float model that lies in a folder."""
    folder = pathlib.Path(where)
    with np.load(folder / "data.npz") as file:
        x = [file[f"arr_{place}"] for place in range(len(file.files) - 3)]
        samples = Samples(x, file["y"], int(file["tested"]), tuple(file["names"]))
    calibration = [array[:CALIBRATION] for array in samples.train]
    path = folder / f"peer{PEERS[way]}"
    if way == "TensorFlow":
        model = keras.models.load_model(folder / "float.keras", compile=False)
        path.write_bytes(peers.tensorflow(model, calibration))
    else:
        path.write_bytes(peers.onnx_runtime(folder / "float.onnx", calibration))
    return score(path, samples, NETWORKS[name].metric)


def score(source: Any, samples: Samples, metric: str) -> Any:
    """Return the metric of a model or a file on the test data."""
    predictor = open_predictor(source)
    (output,) = predict(predictor, predictor.check(samples.packed(samples.test)), batch_size=256).values()
    if not np.isfinite(output).all():
        return NOTHING
    return round(METRICS[metric](samples.y[-samples.tested :], output), 2 if metric == "accuracy %" else 4)


def demo(setting: Setting) -> None:
    """Do the job in a temporary folder and keep its table."""
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        report = run(recipe_of(trained=False), None, digits(), folder=folder).report
    assert report is not None
    rows = [dict(zip(report.headings(), row, strict=True)) for row in report.rows()]
    show("digits", rows)
    save("digits", rows, "make demo")


if __name__ == "__main__":
    run_parts(
        "wild",
        __doc__,
        {"networks": networks, "demo": demo},
        apart={"peer": peer},
        selective=("networks",),
    )
