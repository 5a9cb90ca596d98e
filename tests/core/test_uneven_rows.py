"""Models whose inputs have different numbers of rows, as graph networks take the nodes and the edges of a graph."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfcompress as tfc

NODES, EDGES = 10, 17
HALF = tfc.PruneConfig(tfc.ConstantSparsity(0.5, begin_step=0, frequency=1))


def graph(nodes: int = NODES, edges: int = EDGES) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "nodes": random.normal(size=(nodes, 6)).astype("float32"),
        "edges": random.normal(size=(edges, 3)).astype("float32"),
        "pairs": random.integers(0, nodes, (edges, 2)).astype("int32"),
    }


class Messages(layers.Layer):
    def build(self, shapes):
        self.size = shapes[0][-1]
        self.kernel = self.add_weight(shape=(shapes[1][-1], self.size**2))

    def call(self, inputs):
        nodes, edges, pairs = inputs
        each = ops.reshape(ops.matmul(edges, self.kernel), (-1, self.size, self.size))
        near = ops.expand_dims(ops.take(nodes, pairs[:, 1], axis=0), -1)
        return ops.segment_sum(ops.squeeze(ops.matmul(each, near), -1), pairs[:, 0], num_segments=NODES)


def network(**fixed: tuple[int, ...]) -> keras.Model:
    """Return two steps of message passing; `fixed` are the shapes of inputs, with their rows."""
    shapes = {"nodes": (None, 6), "edges": (None, 3), "pairs": (None, 2), **fixed}
    nodes, edges, pairs = (
        keras.Input(batch_shape=shape, name=name, dtype="int32" if name == "pairs" else "float32")
        for name, shape in shapes.items()
    )
    x = layers.Dense(6, activation="relu")(nodes)
    x = layers.Dense(8, activation="relu")(layers.Concatenate()([x, Messages()([x, edges, pairs])]))
    return keras.Model({"nodes": nodes, "edges": edges, "pairs": pairs}, layers.Dense(3, name="y")(x))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inside, self.messages, self.y = layers.Dense(6, activation="relu"), Messages(), layers.Dense(3)

    def call(self, inputs):
        x = self.inside(inputs["nodes"])
        return self.y(x + self.messages([x, inputs["edges"], inputs["pairs"]]))


def subclassed() -> keras.Model:
    model = Subclassed()
    model(graph())
    return model


MODELS = {
    "free": network,
    "fixed": lambda: network(nodes=(NODES, 6), edges=(EDGES, 3), pairs=(EDGES, 2)),
    "subclassed": subclassed,
}


@pytest.mark.parametrize("kind", MODELS)
def test_graph_networks_go_through_all_verbs(kind, tmp_path):
    model, x = MODELS[kind](), graph()
    before = np.asarray(model(x))
    np.testing.assert_array_equal(np.asarray(tfc.prune(model, HALF)(x)), before)
    quantized = tfc.quantize(model, "int8", data=x)
    for source, precision in ((model, "float32"), (quantized, "int8")):
        for suffix in (".tflite", ".onnx"):
            artifact = tfc.export(source, tmp_path / f"{precision}{suffix}", verify=x)
            assert (artifact.precision, artifact.parity.samples) == (precision, 1)
            if suffix == ".tflite" or kind == "fixed":
                assert {name: spec.shape[0] for name, spec in artifact.inputs.items()} == {
                    name: len(values) for name, values in x.items()
                }
            assert tfc.evaluate(artifact.path, x, before.argmax(-1)).accuracy >= 0.9


def test_onnx_takes_other_rows_and_tflite_says_which(tmp_path):
    model, x, other = network(), graph(), graph(edges=12)
    onnx, tflite = (tfc.export(model, tmp_path / f"m{suffix}", verify=x).path for suffix in (".onnx", ".tflite"))
    assert tfc.verify(model, onnx, other)["y"].max_rel < 1e-5
    assert tfc.debug(model, tflite, x).first is None
    assert tfc.evaluate(model, x, np.asarray(model(x)).argmax(-1)).accuracy == 1
    for call in (lambda: tfc.verify(model, tflite, other), lambda: tfc.evaluate(tflite, other, np.arange(10) % 3)):
        with pytest.raises(ValueError, match=r"Expected as many rows .*'edges': 17.* Received: .*'edges': 12"):
            call()
    shapes = {name: value.shape for name, value in x.items()}
    artifact = tfc.export(model, tmp_path / "shapes.tflite", input_shapes=shapes)
    assert artifact.inputs["edges"].shape == (EDGES, 3)
    with pytest.raises(ValueError, match=r"Expected batch_size=None .*rows.* Received: batch_size=7"):
        tfc.export(model, tmp_path / "seven.tflite", verify=x, batch_size=7)


def test_every_verb_says_the_same_of_rows_that_do_not_fit(tmp_path):
    first, second = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([first, second], layers.Dense(2)(layers.Concatenate()([first, second])))
    good, bad = ({"a": np.ones((8, 4), "float32"), "b": np.ones((rows, 3), "float32")} for rows in (8, 7))
    quantized = tfc.quantize(model, "int8", good)
    path = tfc.export(model, tmp_path / "m.onnx").path
    y = np.arange(8) % 2
    for call in (
        lambda: tfc.quantize(model, "int8", bad),
        lambda: tfc.calibrate(quantized, bad),
        lambda: tfc.export(model, tmp_path / "bad.tflite", verify=bad),
        lambda: tfc.export(model, tmp_path / "bad.onnx", verify=bad),
        lambda: tfc.verify(model, path, bad),
        lambda: tfc.debug(model, path, bad),
        lambda: tfc.evaluate(model, bad, y),
        lambda: tfc.evaluate(path, bad, y),
    ):
        with pytest.raises(ValueError, match=r"Expected as many samples for each input.* \(8, 4\).* \(7, 3\)"):
            call()
    with pytest.raises(ValueError, match=r"Give one such batch at a time"):
        tfc.evaluate(network(), [(graph(), np.arange(10) % 3)] * 2)
    with pytest.raises(ValueError, match=r"different numbers of rows, give such data with verify="):
        tfc.export(network(), tmp_path / "none.tflite")
