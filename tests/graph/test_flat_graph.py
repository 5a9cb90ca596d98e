"""A flat graph is what a functional model of it is, and rewriting makes no other model."""

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.core.keras_private import nodes_in_order
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.flatten import opened, rebuild


def branched():
    """Return a model with a shared layer, branches of unequal length, an unused input and a dict of outputs."""
    x, unused = keras.Input((4,), name="x"), keras.Input((2,), name="unused")
    shared = L.Dense(4, name="shared")
    long = L.Dropout(0.5, name="dropout")(L.ReLU(name="relu")(shared(x)))
    sums = L.Add(name="sum")([shared(long), L.Dense(4, name="short")(x)])
    return keras.Model({"x": x, "unused": unused}, {"b": sums, "a": long + 1.0}, name="branched")


def test_a_graph_is_what_its_model_is():
    model = branched()
    graph = FlatGraph(model.input, model.output, model.name)
    assert graph.nodes == nodes_in_order(model) == FlatGraph.of(model).nodes
    assert graph.operations == model.operations and graph.layers == model.layers
    assert graph.output_names == model.output_names and graph.model().name == "branched"
    data = {"x": np.random.default_rng(0).normal(size=(3, 4)), "unused": np.zeros((3, 2))}
    got, wanted = graph(data), model(data, training=False)
    assert got.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(got[name], wanted[name])
    assert not np.array_equal(graph(data, training=True)["a"], wanted["a"])


def test_a_graph_runs_no_further_than_it_has_to():
    model = branched()
    graph = FlatGraph.of(model)
    model.get_layer("short").call = None  # not called for what doesn't depend on it
    relu = model.get_layer("relu").output
    data = {"x": np.ones((2, 4), "float32"), "unused": np.zeros((2, 2))}
    values = graph.run(data, [relu, graph.inputs[1]])
    np.testing.assert_array_equal(values[0], np.maximum(model.get_layer("shared")(data["x"]), 0))
    np.testing.assert_array_equal(values[1], data["x"] if graph.inputs[1].name == "x" else data["unused"])


def test_an_opened_model_is_the_rebuilt_one():
    model = keras.Sequential([keras.Input((4,)), keras.Sequential([L.Dense(3, name="inner")]), L.Dense(2)])
    graph, again = opened(model), rebuild(model)
    assert [layer.name for layer in graph.layers] == [layer.name for layer in again.layers]
    assert graph.model().get_config() == again.get_config()


@pytest.mark.parametrize("config", ["int8", "int8_per_tensor", "dynamic_int8"])
def test_quantizing_makes_one_functional_model(config, monkeypatch, tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 7)).astype("float32")
    model = keras.Sequential([keras.Input((7,)), L.Dense(11), L.BatchNormalization(), L.ReLU(), L.Dense(2, "softmax")])
    made = {}
    new_model = keras.Model.__new__

    def counted(cls, *args, **kwargs):
        new = new_model(cls, *args, **kwargs)
        if isinstance(new, keras.Function):
            made[id(new)] = new
        return new

    monkeypatch.setattr(keras.Model, "__new__", counted)
    quantized = tfc.quantize(model, config, x)
    assert list(made) == [id(quantized)]
    if config == "int8":
        made.clear()
        tfc.export(quantized, tmp_path / "model.tflite", verify=False)
        assert len(made) == 1
