"""What is done to each step of a sequence is opened: compressed as if the steps were samples."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tfcompress.channels.costs import multiply_adds
from tfcompress.graph import rebuild


def nested():
    parts = [L.Conv2D(6, 3), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(), L.Flatten(), L.Dense(5)]
    return keras.Sequential([keras.Input((6, 6, 2)), *parts])


class Block(L.Layer):
    """A composite of the user's own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = L.Dense(6, activation="relu"), L.Dense(4)

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 6))
        self.built = True

    def call(self, x):
        return self.second(self.first(x))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 4)


INSIDE = {
    "dense": (lambda: L.Dense(6, activation="relu"), (3, 8)),
    "dense of free length": (lambda: L.Dense(6), (None, 8)),
    "conv": (lambda: L.Conv2D(4, 3, activation="relu"), (3, 6, 6, 2)),
    "conv of free length": (lambda: L.Conv2D(4, 3, activation="relu"), (None, 6, 6, 2)),
    "conv of free sizes": (lambda: L.Conv2D(4, 3, activation="relu"), (None, None, None, 2)),
    "nested": (nested, (3, 6, 6, 2)),
    "nested of free length": (nested, (None, 6, 6, 2)),
    "composite": (Block, (3, 8)),
    "recurrent": (lambda: L.GRU(5), (3, 4, 6)),
    "again": (lambda: L.TimeDistributed(L.Conv1D(4, 3)), (2, 3, 8, 2)),
}


def model_of(name):
    inside, shape = INSIDE[name]
    inputs = keras.Input(shape, name="x")
    model = keras.Model(inputs, L.TimeDistributed(inside(), name="each")(inputs))
    return model, np.random.normal(size=(4, *(size or 7 for size in shape))).astype("float32")


@pytest.mark.parametrize("name", INSIDE)
def test_it_is_opened_and_computes_the_same(name, tmp_path):
    model, x = model_of(name)
    pruned = tfc.prune_once(model, 0.5)
    assert not any(isinstance(layer, L.TimeDistributed) for layer in pruned._flatten_layers())
    assert pruned.output_names == ["each"]
    assert tfc.sparsity(pruned) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(rebuild(model)(x), model(x), atol=1e-5)
    pruned.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded(x), pruned(x), atol=1e-6)
    tfc.prune(model, 0.5, layers="each")  # its name still means what is inside


@pytest.mark.skipif(not ON_TENSORFLOW, reason="exports")
@pytest.mark.parametrize("name", ["dense", "conv of free length", "nested", "again"])
def test_files_compute_in_integers(name, tmp_path):
    model, x = model_of(name)
    quantized = tfc.quantize(model, "int8", data=x)
    for suffix in (".tflite", ".onnx"):
        artifact = tfc.export(quantized, tmp_path / f"m{suffix}")
        assert artifact.precision == "int8"
        assert artifact.parity.outputs["each"].max_steps <= 1
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(tmp_path / "m.tflite"))
    interpreter.allocate_tensors()
    types = {detail["index"]: np.dtype(detail["dtype"]) for detail in interpreter.get_tensor_details()}
    kernels = [op for op in interpreter._get_ops_details() if op["op_name"] in ("CONV_2D", "FULLY_CONNECTED")]
    assert kernels
    assert all(types[op["inputs"][0]] == types[op["inputs"][1]] == np.int8 for op in kernels)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="exports")
@pytest.mark.parametrize("file", ["m.tflite", "m.onnx"])
@pytest.mark.parametrize("name", ["dense of free length", "nested of free length"])
def test_float_files_take_any_length(name, file, tmp_path):
    model, x = model_of(name)
    assert tfc.export(model, tmp_path / file, verify=x).parity.outputs["each"].max_rel < 1e-5


def test_training_reaches_what_is_inside():
    """Dropout drops, and statistics move, in training alone."""
    inside = keras.Sequential([keras.Input((5,)), L.BatchNormalization(), L.Dropout(0.5), L.Dense(4)])
    inputs = keras.Input((3, 5))
    pruned = tfc.prune(keras.Model(inputs, L.TimeDistributed(inside)(inputs)), 0.5)
    x = np.random.normal(2, 1, (8, 3, 5)).astype("float32")
    one, two = (keras.ops.convert_to_numpy(pruned(x, training=True)) for _ in range(2))
    assert not np.allclose(one, two)
    moved = next(layer for layer in pruned.layers if isinstance(layer, L.BatchNormalization)).moving_mean
    assert np.all(keras.ops.convert_to_numpy(moved) > 0)
    np.testing.assert_array_equal(pruned(x, training=False), pruned(x, training=False))


def test_channels_inside_are_removed():
    """And those that it passes on to what is behind."""
    inputs = keras.Input((3, 6, 6, 2))
    inside = keras.Sequential(
        [keras.Input((6, 6, 2)), L.Conv2D(8, 3, name="conv"), L.Flatten(), L.Dense(6, name="out")]
    )
    outputs = L.Dense(2)(L.TimeDistributed(inside)(inputs))
    pruned = tfc.prune_once(keras.Model(inputs, outputs), 0.5, granularity="channel")
    small = tfc.shrink(tfc.strip(pruned))
    assert small.get_layer("conv").filters == 4
    assert small.get_layer("out").units == 3
    x = np.random.normal(size=(2, 3, 6, 6, 2)).astype("float32")
    np.testing.assert_allclose(small(x), pruned(x), atol=1e-5)


def test_one_that_is_shared_stays_shared():
    each = L.TimeDistributed(L.Conv1D(3, 2), name="each")
    one, two = keras.Input((4, 5, 2)), keras.Input((6, 5, 2))
    model = keras.Model([one, two], [each(one), each(two)])
    opened = rebuild(model)
    assert len(opened.weights) == 2
    data = [np.random.normal(size=(2, *x.shape[1:])) for x in (one, two)]
    for old, new in zip(model(data), opened(data), strict=True):
        np.testing.assert_allclose(old, new, atol=1e-5)


def test_multiplications_are_those_of_all_steps():
    model, _ = model_of("conv")
    assert multiply_adds(rebuild(model)) == {"each_conv2d": 3 * 4 * 4 * (3 * 3 * 2 * 4)}


@pytest.mark.filterwarnings("ignore:No activation")
def test_with_a_mask_it_is_one_layer_and_says_why():
    inputs = keras.Input((3,), dtype="int32")
    x = L.Embedding(9, 8, mask_zero=True)(inputs)
    model = keras.Model(inputs, L.TimeDistributed(L.Dense(4), name="each")(x))
    assert isinstance(rebuild(model).get_layer("each"), L.TimeDistributed)
    rows = tfc.summary(tfc.quantize(model, "int8")).rows
    assert any("float fallback: it gets a Keras mask" in str(row) for row in rows if row.layer == "each")


def test_what_has_a_state_is_one_layer():
    model = keras.Sequential([keras.Input(batch_shape=(2, 3, 4, 5)), L.TimeDistributed(L.GRU(3, stateful=True))])
    assert isinstance(rebuild(model).layers[-1], L.TimeDistributed)
