"""LSTMs in the forms that TFLite has for them, beside TensorFlow's own conversion: bytes, time, accuracy, arena."""

from __future__ import annotations

import functools
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data
from benchmarks.harness import Setting, collected, each_step, milliseconds, per_round, save, show

STEPS, BANDS, WORDS = 100, 10, 8
TRAINED, TESTED, IN_TFLM = 4096, 2000, 2000
STOCK, STOCK_DYNAMIC = "TensorFlow's converter", "TensorFlow's converter, dynamic range"
FORMS = (STOCK, STOCK_DYNAMIC, "float, fused", "float, loop", "dynamic_int8", "int8")
FORCED = "dynamic_int8, loop"
"""What `tfc.export` writes only from some number of units on."""
SIZES = ((16, 10, False), (32, 10, False), (64, 10, False), (128, 32, False), (256, 64, False), (64, 10, True))
"""Units, inputs, and whether the outputs of all steps are wanted."""


def keywords(count: int, random: np.random.Generator) -> data.Arrays:
    """Return (x, y): words of three tones, each of some length and place, in ten bands under noise."""
    tones = np.random.default_rng(7).integers(0, BANDS, (WORDS, 3))
    y = random.integers(0, WORDS, count)
    x = random.normal(0.0, 0.9, (count, STEPS, BANDS))
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


def listener(shape: tuple[int, ...], units: int, classes: int, sequences: bool = False) -> keras.Model:
    """Return an LSTM and a dense layer, which gets its last output, or the mean of all."""
    lstm = keras.layers.LSTM(units, return_sequences=sequences, name="lstm")
    mean = [keras.layers.GlobalAveragePooling1D(name="mean")] if sequences else []
    return keras.Sequential([keras.Input(shape, name="x"), lstm, *mean, keras.layers.Dense(classes, name="logits")])


def fit(model: keras.Model, train: data.Arrays, epochs: int, rate: float) -> None:
    """Train."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    steps = epochs * -(-len(train[0]) // 64)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)), loss)
    model.fit(*train, batch_size=64, epochs=epochs, verbose=0)


def stock(model: keras.Model, path: pathlib.Path, dynamic: bool = False) -> None:
    """Write what TensorFlow's converter makes of a model, for one sample.

    Args:
        model: Of Keras.
        path: Of the file.
        dynamic: Whether with weights of 8 bits, ranges found at run time.
    """
    import tensorflow as tf

    spec = tf.TensorSpec((1, *model.inputs[0].shape[1:]))
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, input_signature=[spec], verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT] if dynamic else []
        path.write_bytes(converter.convert())


def _loaded(path: pathlib.Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]
    interpreter.set_tensor(given["index"], np.random.default_rng(0).normal(size=given["shape"]).astype("float32"))
    return interpreter


def row(path: pathlib.Path, test: data.Arrays, micro: bool) -> dict[str, Any]:
    """Measure one file."""
    interpreter = _loaded(path)
    given, made = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def answer(x: np.ndarray) -> int:
        interpreter.set_tensor(given, x[None])
        interpreter.invoke()
        return int(interpreter.get_tensor(made).argmax())

    right = 100 * float(np.mean([answer(x) == y for x, y in zip(*test, strict=True)]))
    found: dict[str, Any] = {"bytes": path.stat().st_size, "accuracy, %": f"{right:.2f}"}
    return found | (_in_tflm(path, test) if micro else {"in TFLite Micro, %": "", "arena": ""})


def _in_tflm(path: pathlib.Path, test: data.Arrays) -> dict[str, Any]:
    from tfcompress.runtime.tflm_runner import TFLMRunner

    runner = TFLMRunner(path)
    (name,), (output,) = runner.input_specs, runner.output_specs
    answers = [runner.run({name: x[None]})[output].argmax() for x in test[0][:IN_TFLM]]
    right = 100 * np.mean(np.array(answers) == test[1][:IN_TFLM])
    return {"in TFLite Micro, %": f"{right:.2f}", "arena": runner.arena().total}


def recurrent(setting: Setting) -> None:
    """Train, quantize and measure both networks; what was measured before it was cut short stays."""
    random = np.random.default_rng(0)
    words = (keywords(TRAINED, random), keywords(TESTED, random))
    digits = rows_of_digits(setting)
    tasks = {
        "keywords, 100 steps": (words, 64, 6),
        "rows of MNIST, 28 steps": (((digits[0][0][:20000], digits[0][1][:20000]), digits[1]), 64, 4),
    }
    rows = []
    for task, ((train, test), units, epochs) in tasks.items():
        folder = setting.cache / f"recurrent-{units}-{train[0].shape[1]}"
        files = _files(folder, train, test, units, epochs)
        for name in files:
            key = {"network": task, "file": name}
            measured = (files[name], (test[0][:TESTED], test[1][:TESTED]), name.startswith("int8"))
            rows.append(collected("small_recurrent", setting.command, key, functools.partial(row, *measured)))
    show("LSTMs in TFLite", rows)


def _files(
    folder: pathlib.Path, train: data.Arrays, test: data.Arrays, units: int, epochs: int
) -> dict[str, pathlib.Path]:
    """Return the files of a network, made anew of models that are trained where a folder doesn't have them."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "float.keras"
    if not kept.exists():
        keras.utils.set_random_seed(0)
        model = listener(train[0].shape[1:], units, int(train[1].max()) + 1, sequences=train[0].shape[1] == STEPS)
        fit(model, train, epochs, 3e-3)
        model.save(kept)
    model = keras.models.load_model(kept)
    quantized = tfc.quantize(model, "int8", train[0][:512])

    def export(given: keras.Model, path: pathlib.Path) -> None:
        tfc.export(given, path, verify=test[0][:64], overwrite=True)

    def trained(path: pathlib.Path) -> None:
        again = folder / "trained.keras"
        if not again.exists():
            fit(quantized, train, 1, 3e-4)
            tfc.save(quantized, again)
        export(keras.models.load_model(again, compile=False), path)

    makers: dict[str, Callable[[pathlib.Path], object]] = {
        STOCK: functools.partial(stock, model),
        STOCK_DYNAMIC: functools.partial(stock, model, dynamic=True),
        "float": functools.partial(export, model),
        "dynamic_int8": functools.partial(export, tfc.quantize(model, "dynamic_int8")),
        "int8": functools.partial(export, quantized),
        "int8, trained on": trained,
    }
    files = {name: folder / f"{place}.tflite" for place, name in enumerate(makers)}
    for name, make in makers.items():
        make(files[name])
    return files


def recurrent_time(setting: Setting) -> None:
    """Time an LSTM of many sizes, untrained, in each of the forms that a file has for it: 100 steps, one sample."""
    from tfcompress.tracing import lstm_loop

    rows = []
    for units, width, sequences in SIZES:
        keras.utils.set_random_seed(0)
        model = listener((STEPS, width), units, WORDS, sequences)
        samples = np.random.default_rng(0).normal(size=(32, STEPS, width)).astype("float32")
        with tempfile.TemporaryDirectory() as made:
            folder = pathlib.Path(made)
            dynamic = FORCED if units < lstm_loop.UNITS and not sequences else "dynamic_int8"
            forms = [dynamic if name == "dynamic_int8" else name for name in FORMS]
            files = {name: folder / f"{place}.tflite" for place, name in enumerate(forms)}
            stock(model, files[STOCK])
            stock(model, files[STOCK_DYNAMIC], dynamic=True)
            with mock.patch.object(lstm_loop, "UNITS", units + 1):
                tfc.export(model, files["float, fused"])
            with mock.patch.object(lstm_loop, "UNITS", units):
                tfc.export(model, files["float, loop"])
                tfc.export(tfc.quantize(model, "dynamic_int8"), files[dynamic])
            tfc.export(tfc.quantize(model, "int8", samples), files["int8"], verify=samples[:4])
            taken = per_round(each_step({name: _invoking(path) for name, path in files.items()}, setting.rounds))
            base, size = float(np.median(taken[STOCK])), files[STOCK].stat().st_size
            for name, path in files.items():
                if sequences and name == "float, loop":
                    continue  # those of all steps are fused
                times = taken[name]
                rows.append(
                    {
                        "units": units,
                        "inputs": width,
                        "output": "all steps" if sequences else "last step",
                        "file": name,
                        "bytes": path.stat().st_size,
                        "times smaller": f"{size / path.stat().st_size:.2f}",
                        **milliseconds(times),
                        "times faster": f"{base / float(np.median(times)):.2f}",
                    }
                )
        show(f"{units} units", rows[-len(FORMS) :])
    save("small_recurrent_time", rows, setting.command)


def _invoking(path: pathlib.Path) -> Callable[[], object]:
    interpreter = _loaded(path)
    return interpreter.invoke
