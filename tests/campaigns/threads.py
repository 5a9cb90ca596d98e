"""Four threads that prune, quantize, export, evaluate and train at once: errors, other results, what is left changed.

    python -m tests.campaigns.threads [--rounds=200]

All threads read one model, which nobody may change; each result has to be that of a thread alone.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import tfcompress as tfc
from tfcompress.export import open_runner

THREADS = 4

Result = list[np.ndarray]


class Block(layers.Layer):
    """A composite layer, which is opened."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.wide = layers.Dense(12, activation="relu")
        self.narrow = layers.Dense(6)

    def call(self, x: Any) -> Any:
        """Return the input, and more."""
        return x + self.narrow(self.wide(x))


class Classifier(keras.Model):
    """A subclassed model with a weight of its own."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(6, 3, groups=2, activation="relu")
        self.pool = layers.GlobalAveragePooling2D()
        self.block = Block()
        self.factor = self.add_weight(shape=(6,), initializer="ones", name="factor")
        self.scores = layers.Dense(3, activation="softmax")

    def call(self, x: Any) -> Any:
        """Return the shares of the classes."""
        return self.scores(self.block(self.pool(self.conv(x))) * self.factor)


def shared_state() -> list[Any]:
    """Return what is one for all threads, and was once replaced for a time."""
    functions = getattr(keras.src.backend, "numpy", None) or keras.src.backend.ops.numpy
    value = next(vars(cls)["value"] for cls in keras.Variable.__mro__ if "value" in vars(cls))
    called = [keras.layers.Layer.__call__, keras.Operation.__call__, value, tf.function]
    return [*called, functions.argmax, functions.argmin, list(warnings.filters), sys.getrecursionlimit()]


class Work:
    """The model, its data, and what each of the verbs makes of them."""

    def __init__(self, folder: pathlib.Path):
        keras.utils.set_random_seed(0)
        generator = np.random.default_rng(0)
        self.folder = folder
        self.x = generator.normal(size=(32, 6, 6, 4)).astype("float32")
        self.y = generator.integers(0, 3, 32)
        self.model = Classifier(name="shared")
        self.model(self.x[:1])
        self.verbs: dict[str, Callable[[], Result]] = {
            "prune": self.prune,
            "quantize": self.quantize,
            "export to .tflite": lambda: self.export(".tflite"),
            "export to .onnx": lambda: self.export(".onnx"),
            "evaluate": self.evaluate,
            "fit": self.fit,
        }

    def prune(self) -> Result:
        """Return the pruned weights."""
        return tfc.strip(tfc.prune_once(self.model, 0.5)).get_weights()

    def quantize(self) -> Result:
        """Return the outputs of the quantized model."""
        quantized = tfc.quantize(self.model, "int8", data=self.x)
        return [np.asarray(quantized(self.x, training=False))]

    def export(self, suffix: str) -> Result:
        """Return the outputs of the file."""
        path = self.folder / f"{threading.get_ident()}{suffix}"
        tfc.export(self.model, path, batch_size=None, overwrite=True)
        return list(open_runner(path).run({"x": self.x}).values())

    def evaluate(self) -> Result:
        """Return the accuracy."""
        found = tfc.evaluate(self.model, self.x, self.y)
        return [np.asarray([found.accuracy, found.macro_f1, found.roc_auc])]

    def fit(self) -> Result:
        """Return the weights of a model that was trained while it was pruned."""
        schedule = tfc.PolynomialSparsity(0.0, 0.5, begin_step=0, end_step=4, frequency=1)
        pruned = tfc.prune(self.model, schedule)
        pruned.compile("sgd", "sparse_categorical_crossentropy")
        pruned.fit(self.x, self.y, epochs=2, batch_size=8, shuffle=False, verbose=0)
        return tfc.strip(pruned).get_weights()


def one_round(work: Work, names: list[str], expected: dict[str, Result]) -> list[str]:
    """Let each thread do one verb, all at once; return what went wrong."""
    start = threading.Barrier(len(names))
    wrong: list[str] = []

    def run(name: str) -> None:
        start.wait()
        try:
            found = work.verbs[name]()
        except Exception:
            wrong.append(f"{name}: {traceback.format_exc()}")
            return
        same = len(found) == len(expected[name]) and all(
            np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(found, expected[name], strict=True)
        )
        if not same:
            wrong.append(f"{name}: another result than that of a thread alone")

    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def campaign(rounds: int, say: Callable[[str], None] = print) -> dict[str, int]:
    """Run `rounds` rounds of `THREADS` threads.

    Returns:
        Counts: "calls", "errors and other results", "changes left" (of what all threads share).
    """
    counts = {"calls": 0, "errors and other results": 0, "changes left": 0}
    with tempfile.TemporaryDirectory() as folder:
        work = Work(pathlib.Path(folder))
        expected = {name: verb() for name, verb in work.verbs.items()}
        before = shared_state()
        names = list(work.verbs)
        for number in range(rounds):
            # All kinds meet all kinds, and every third time a kind meets itself.
            step = 1 + number // len(names) % (len(names) - 1)
            places = [number + (0 if number % 3 == 2 else step * thread) for thread in range(THREADS)]
            wrong = one_round(work, [names[place % len(names)] for place in places], expected)
            counts["calls"] += THREADS
            counts["errors and other results"] += len(wrong)
            counts["changes left"] += shared_state() != before
            for text in wrong:
                say(f"round {number}: {text}")
    return counts


def main() -> None:
    """Run the campaign and print its counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    counts = campaign(parser.parse_args().rounds)
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    sys.exit(1 if counts["errors and other results"] or counts["changes left"] else 0)


if __name__ == "__main__":
    main()
