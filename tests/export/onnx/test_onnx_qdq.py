"""The pieces of integer ONNX models: names and graphs."""

import numpy as np
import pytest

from tfcompress.export.onnx.fake_quant_nodes import layer_name
from tfcompress.export.onnx.graph_editor import Graph


@pytest.mark.parametrize(
    ("operation", "layer"),
    [
        ("model_1/quantizer_1/FakeQuantWithMinMaxVars", "quantizer"),
        ("a/b/quantizer_12_3/FakeQuantWithMinMaxVars", "quantizer_12"),
        ("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVars"),
    ],
)
def test_layer_name(operation, layer):
    assert layer_name(operation) == layer


def relu_chain():
    import onnx

    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make("Relu", ["x"], ["a"]),
        make("Neg", ["a"], ["b"]),
        make("Abs", ["b"], ["y"]),
        make("Exp", ["a"], ["c"]),
    ]
    ends = [info(name, onnx.TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "chain", ends[:1], ends[1:]))


def test_graph_knows_makers_readers_and_shapes():
    graph = Graph(relu_chain())
    assert [node.op_type for node in graph.readers("a")] == ["Neg", "Exp"]
    assert graph.producer("b").op_type == "Neg" and graph.producer("x") is None
    assert graph.only_reader("a") is None and graph.only_reader("b", "Abs").op_type == "Abs"
    assert graph.shapes["b"] == (None, 3) and graph.is_output("y") and not graph.is_output("b")


def test_graph_is_written_back_sorted_without_what_nothing_reads():
    import onnx

    proto = relu_chain()
    graph = Graph(proto)
    late = graph.add("Add", ["a", graph.constant("one", np.ones(3, "float32"))], graph.fresh("a"))
    assert late == "a_2"
    graph.set_input(graph.producer("b"), 0, late)
    graph.constant("unused", np.ones(3, "float32"))
    graph.finish()
    onnx.checker.check_model(proto, full_check=True)
    assert [node.op_type for node in proto.graph.node] == ["Relu", "Add", "Neg", "Abs"]
    assert [tensor.name for tensor in proto.graph.initializer] == ["one"]


def test_a_node_taken_out_leaves_the_name_of_an_output():
    import onnx

    proto = relu_chain()
    graph = Graph(proto)
    graph.bypass(graph.producer("y"))
    graph.bypass(graph.producer("a"))
    graph.finish()
    onnx.checker.check_model(proto, full_check=True)
    assert [(node.op_type, *node.input, *node.output) for node in proto.graph.node] == [("Neg", "x", "y")]
