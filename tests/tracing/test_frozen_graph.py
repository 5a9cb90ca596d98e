"""Graphs whose variables are constants, and which models have one."""

import keras
from keras import layers, ops

from tfcompress.tracing import frozen_graph
from tfcompress.tracing.frozen_graph import frozen
from tfcompress.tracing.trace import trace


def frozen_trace(traced):
    return frozen(traced.concrete, len(traced.inputs))


def called_twice():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    return keras.Model(inputs, shared(layers.Normalization(mean=1.0, variance=4.0)(shared(inputs))))


def test_each_variable_is_one_constant():
    traced = trace(called_twice(), 1)
    graph_def = frozen_trace(traced)
    assert not {node.op for node in graph_def.node} & {"ReadVariableOp", "VarHandleOp"}
    placeholders = [node.name for node in graph_def.node if node.op == "Placeholder"]
    assert placeholders == [x.op.name for x in traced.concrete.inputs[:1]]
    shapes = [
        [dim.size for dim in node.attr["value"].tensor.tensor_shape.dim]
        for node in graph_def.node
        if node.op == "Const"
    ]
    assert shapes.count([4, 4]) == shapes.count([4]) == 1


def test_a_loop_reads_a_variable_otherwise():
    assert frozen_trace(trace(keras.Sequential([keras.Input((3, 2)), layers.LSTM(2)]), 1)) is None


def test_too_large_a_graph_is_none(monkeypatch):
    monkeypatch.setattr(frozen_graph, "LARGEST_GRAPH", 63)
    assert frozen_trace(trace(keras.Sequential([keras.Input((4,)), layers.Dense(4, use_bias=False)]), 1)) is None
    assert frozen_trace(trace(keras.Sequential([keras.Input((4,)), layers.Lambda(ops.exp)]), 1)) is not None
