"""A TFLite graph that is changed: its index, its signature and its bytes."""

import keras
import numpy as np
from keras import layers

from tests.export.tiny import interpreter
from tfcompress.export.tflite.flatbuffer import File
from tfcompress.export.tflite.to_tflite import to_tflite
from tfcompress.tracing.trace import trace


def test_operators_left_out_are_read_past():
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    hidden = layers.Activation("tanh", name="tanh")(layers.Dense(3, name="dense")(x))
    model = keras.Model(x, {"exp": keras.ops.exp(hidden), "sin": keras.ops.sin(hidden), "tanh": hidden})
    file = File(to_tflite(trace(model, 1)))
    graph = file.graphs[0]
    by_name = {graph.name(op): op for op in graph.operators}
    tanh, dense = by_name["TANH"], by_name["FULLY_CONNECTED"]
    before, after = int(tanh.inputs[0]), int(tanh.outputs[0])
    assert graph.index.producer(before) is dense and graph.index.only_reader(before) is tanh
    assert {graph.name(op) for op in graph.index.readers(after)} == {"EXP", "SIN"}
    assert graph.index.is_output(after) and graph.index.only_reader(after) is None

    graph.leave_out([tanh], {after: before})
    assert not graph.index.readers(after) and graph.index.is_output(before) and not graph.index.is_output(after)
    assert {(graph.name(op), place) for op, place in graph.index.readings(before)} == {("EXP", 0), ("SIN", 0)}

    data = np.random.default_rng(0).normal(size=(1, 4)).astype("float32")
    found = interpreter(file.to_bytes()).get_signature_runner()(x=data)
    wanted = np.asarray(model.get_layer("dense")(data))
    for name, value in {"exp": np.exp(wanted), "sin": np.sin(wanted), "tanh": wanted}.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)
