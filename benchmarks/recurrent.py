"""LSTMs as one integer operator beside the loop of TensorFlow's own conversion: bytes, time, accuracy, TFLite Micro."""

from __future__ import annotations

import pathlib
import tempfile
import time
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data
from benchmarks.harness import Setting, save, show

STEPS, BANDS, WORDS = 100, 10, 8
TRAINED, TESTED, IN_TFLM = 4096, 2000, 200
RUNS = 300


def keywords(count: int, random: np.random.Generator) -> data.Arrays:
    """Return (x, y): words of three tones, each of some length and place, in ten bands under noise."""
    tones = np.random.default_rng(7).integers(0, BANDS, (WORDS, 3))
    y = random.integers(0, WORDS, count)
    x = random.normal(0.0, 0.6, (count, STEPS, BANDS))
    for sample, word in enumerate(y):
        start = random.integers(0, 25)
        for tone in tones[word]:
            length = random.integers(10, 22)
            x[sample, start : start + length, tone] += random.uniform(0.7, 1.5)
            start += length + random.integers(0, 4)
    return x.astype("float32"), y


def rows_of_digits(setting: Setting) -> tuple[data.Arrays, data.Arrays]:
    """Return MNIST, each image a sequence of its rows."""
    train, test = ((x[..., 0].astype("float32") / 255, y) for x, y in data.mnist(setting.data))
    return train, test


def listener(shape: tuple[int, ...], units: int, classes: int) -> keras.Model:
    """Return an LSTM and a dense layer."""
    lstm, logits = keras.layers.LSTM(units, name="lstm"), keras.layers.Dense(classes, name="logits")
    return keras.Sequential([keras.Input(shape, name="x"), lstm, logits])


def fit(model: keras.Model, train: data.Arrays, epochs: int, rate: float) -> None:
    """Train."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    steps = epochs * -(-len(train[0]) // 64)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)), loss, ["accuracy"])
    model.fit(*train, batch_size=64, epochs=epochs, verbose=0)


def loop(model: keras.Model, path: pathlib.Path) -> pathlib.Path:
    """Write what TensorFlow's converter makes of a model, for one sample."""
    import tensorflow as tf

    spec = tf.TensorSpec((1, *model.inputs[0].shape[1:]))
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, input_signature=[spec], verbose=False)
        content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    path.write_bytes(content)
    return path


def row(path: pathlib.Path, test: data.Arrays, micro: bool) -> dict[str, Any]:
    """Measure one file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def answer(x: np.ndarray) -> int:
        interpreter.set_tensor(given, x[None])
        interpreter.invoke()
        return int(interpreter.get_tensor(made).argmax())

    right = np.mean([answer(x) == y for x, y in zip(*test, strict=True)])
    times = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(RUNS // 5):
            interpreter.invoke()
        times.append((time.process_time() - start) / (RUNS // 5))
    found: dict[str, Any] = {"bytes": path.stat().st_size, "ms": round(1e3 * min(times), 4), "accuracy %": 100 * right}
    return found | (_in_tflm(path, test) if micro else {"TFLM accuracy %": "-", "TFLM arena": "-"})


def _in_tflm(path: pathlib.Path, test: data.Arrays) -> dict[str, Any]:
    from tfcompress.runtime.tflm_runner import TFLMRunner

    runner = TFLMRunner(path)
    (name,), (output,) = runner.input_specs, runner.output_specs
    answers = [runner.run({name: x[None]})[output].argmax() for x in test[0][:IN_TFLM]]
    right = np.mean(np.array(answers) == test[1][:IN_TFLM])
    return {"TFLM accuracy %": 100 * right, "TFLM arena": runner.arena().total}


def recurrent(setting: Setting) -> None:
    """Train, quantize and measure both networks."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    words = (keywords(TRAINED, random), keywords(TESTED, random))
    digits = rows_of_digits(setting)
    rows = []
    for task, (train, test), units, epochs in (
        ("keywords, 100 steps", words, 32, 8),
        ("rows of MNIST, 28 steps", ((digits[0][0][:20000], digits[0][1][:20000]), digits[1]), 64, 4),
    ):
        test = test[0][:TESTED], test[1][:TESTED]  # noqa: PLW2901
        model = listener(train[0].shape[1:], units, int(train[1].max()) + 1)
        fit(model, train, epochs, 3e-3)
        quantized = tfc.quantize(model, "int8", train[0][:512])
        with tempfile.TemporaryDirectory() as made:
            folder = pathlib.Path(made)
            files = {"float, TensorFlow's converter (loop)": loop(model, folder / "loop.tflite")}
            files["float, fused"] = tfc.export(model, folder / "float.tflite", verify=test[0][:64]).path
            files["int8"] = tfc.export(quantized, folder / "int8.tflite", verify=test[0][:64]).path
            fit(quantized, train, 1, 3e-4)
            files["int8, trained on"] = tfc.export(quantized, folder / "qat.tflite", verify=test[0][:64]).path
            for name, path in files.items():
                rows.append({"network": task, "file": name, **row(path, test, "loop" not in name)})
                print(rows[-1], flush=True)
    show("LSTMs in TFLite", rows)
    save("small_recurrent", rows, setting.command)
