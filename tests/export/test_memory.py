"""Memory that runs out is said as that, by loading and by both converters."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfcompress as tfc


def model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="small")


def fails(error):
    def raising(*args, **kwargs):
        raise error

    return raising


FULL = [MemoryError(), np.exceptions.AxisError("Unable to allocate 3 GiB"), RuntimeError("std::bad_alloc")]


@pytest.mark.parametrize("error", FULL, ids=["Python", "NumPy", "C++"])
def test_loading(error, tmp_path, monkeypatch):
    model().save(tmp_path / "m.keras")
    monkeypatch.setattr(keras.Sequential, "from_config", fails(error))
    with pytest.raises(MemoryError, match=r"Expected enough memory to load .*m\.keras"):
        tfc.load(tmp_path / "m.keras")


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_exporting(format, tmp_path, monkeypatch):
    from tf2onnx import tfonnx

    error = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    monkeypatch.setattr(tf.saved_model, "save", fails(error))
    monkeypatch.setattr(tfonnx, "process_tf_graph", fails(error))
    with pytest.raises(MemoryError, match="Expected enough memory to convert model 'small'"):
        tfc.export(model(), tmp_path / f"m.{format}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("verb", "module", "what"),
    [
        ("summary", "tfcompress.evaluation.summary", "parts"),
        ("shrink", "tfcompress.pruning.shrinking.shrink", "_plain"),
        ("strip", "tfcompress.graph.strip", "opened"),
    ],
)
def test_any_verb(verb, module, what, monkeypatch):
    given = tfc.prune(model(), tfc.ConstantSparsity(0.5)) if verb == "strip" else model()
    error = ValueError("Expected another model.")
    error.__cause__ = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    monkeypatch.setattr(importlib.import_module(module), what, fails(error))
    with pytest.raises(MemoryError, match=rf"Expected enough memory to run {verb}\. Received: out of memory"):
        getattr(tfc, verb)(given)


def test_a_layer_that_does_not_fit_is_not_taken_for_one_that_can_not_be_opened(monkeypatch):
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    given = keras.Sequential([keras.Input((4,)), Block()])
    error = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    monkeypatch.setattr(Block, "call", fails(error))
    with pytest.raises(MemoryError, match="Expected enough memory to run prune"):
        tfc.prune(given, tfc.ConstantSparsity(0.5))
