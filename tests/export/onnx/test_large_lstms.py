"""Large kernels of recurrent layers and of other loops, kept out of TensorFlow's graphs on their way to ONNX."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
import onnx
import pytest

import tfcompress as tfc
from tfcompress.export.onnx import large_constants, large_lstms
from tfcompress.export.onnx.large_constants import detach_large
from tfcompress.tracing.trace import trace

L = keras.layers


class Again(L.Layer):
    """A loop that reads its variables: a Dense in a loop in a loop, a table, a kernel in a branch."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.dense, self.table = L.Dense(8), L.Embedding(5, 8)

    def build(self, shape):
        self.dense.build((None, shape[-1]))
        self.table.build((None,))
        self.kernel = self.add_weight(shape=(8, 8))

    def call(self, x):
        ops = keras.ops
        steps = {
            "nested": lambda i, y: ops.fori_loop(0, 2, lambda _, z: ops.tanh(self.dense(z)), y),
            "looked up": lambda i, y: y + self.table(ops.zeros((1,), "int32") + i),
            "in a branch": lambda i, y: ops.cond(i > 1, lambda: y @ self.kernel, lambda: y),
        }
        return self.dense(ops.fori_loop(0, 3, steps[self.kind], x[:, 0]))


def network(kind):
    keras.utils.set_random_seed(0)
    x = keras.Input((4, 8), name="x")
    y = {
        "LSTM": lambda: L.LSTM(6)(L.LSTM(5, return_sequences=True)(x)),
        "both ways": lambda: L.Bidirectional(L.LSTM(6, use_bias=False, return_sequences=True))(x),
        "one small": lambda: L.LSTM(10)(L.Dense(1)(x)),
        "GRU": lambda: L.GRU(5)(x),
        "masked": lambda: L.LSTM(5)(L.Masking()(x)),
    }.get(kind, lambda: Again(kind)(x))()
    return keras.Model(x, y)


APART = {
    "LSTM": 4, "both ways": 4, "one small": 1, "GRU": 2, "masked": 4, "nested": 2, "looked up": 1, "in a branch": 1,
}  # fmt: skip
"""How many constants of at least 200 bytes become arguments."""


@pytest.mark.parametrize("kind", APART)
def test_the_file_is_the_same(kind, tmp_path, monkeypatch):
    model, x = network(kind), np.random.default_rng(0).normal(size=(3, 4, 8)).astype("float32")
    assert len(detach_large(trace(model, None), 200)[1]) == APART[kind]
    found = []
    for least in (200, 1 << 30):
        monkeypatch.setattr(large_constants, "LEAST_BYTES", least)
        artifact = tfc.export(model, tmp_path / f"{least}.onnx")
        graph = onnx.load(artifact.path).graph
        sizes = sorted((tuple(tensor.dims), tensor.data_type) for tensor in graph.initializer)
        found.append((Counter(node.op_type for node in graph.node), sizes, artifact.predict(x)))
    assert found[0][:2] == found[1][:2]
    np.testing.assert_array_equal(found[0][2], found[1][2])


def test_kernels_on_a_grid(tmp_path, monkeypatch):
    model = tfc.quantize(network("LSTM"), "int8_weights")
    found = []
    for least in (200, 1 << 30):
        monkeypatch.setattr(large_constants, "LEAST_BYTES", least)
        found.append(tfc.export(model, tmp_path / f"{least}.onnx").path.read_bytes())
    assert found[0] == found[1]


def test_of_many_kernels_none_is_taken_for_another(tmp_path, monkeypatch):
    monkeypatch.setattr(large_constants, "LEAST_BYTES", 4)
    monkeypatch.setattr(large_lstms, "_BYTE", 16)  # as 64 kernels do of the 256 that a byte tells apart
    x = keras.Input((2, 1))
    parts = [L.LSTM(1, name=f"lstm_{i}")(x) for i in range(3)]
    artifact = tfc.export(keras.Model(x, L.Concatenate()(parts)), tmp_path / "m.onnx")
    assert Counter(node.op_type for node in onnx.load(artifact.path).graph.node)["LSTM"] == 3
