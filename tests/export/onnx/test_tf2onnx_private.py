"""tf2onnx' private names: they still are what `tf2onnx_private` takes them for."""

from __future__ import annotations

import pytest
import tf2onnx
from onnx import TensorProto, helper
from tf2onnx.graph import GraphUtil

from tests.private_names import Cases
from tfcompress.export.onnx import tf2onnx_private as private

TF2ONNX = Cases(private, "tf2onnx", tf2onnx.__version__, seen="1.17.0")
case = TF2ONNX.case


def reshaped(first, second):
    """Return a graph of tf2onnx with two reshapes behind one another."""
    shapes = {"first": first, "second": second}
    constants = [helper.make_tensor(name, TensorProto.INT64, [len(sizes)], sizes) for name, sizes in shapes.items()]
    nodes = [helper.make_node("Reshape", ["x", "first"], ["y"]), helper.make_node("Reshape", ["y", "second"], ["z"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4])]
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, constants))
    model.opset_import[0].version = 18
    return GraphUtil.create_graph_from_onnx_model(model)


def reshapes(graph):
    return sum(node.type == "Reshape" for node in graph.get_nodes())


@case()
def all_optimizers():
    made = private.all_optimizers()
    assert {"remove_back_to_back", "q_dq_optimizer", "const_dequantize_optimizer"} <= {*made}
    assert all(callable(getattr(make(), "optimize", None)) for make in made.values())


@case("optimize_once", "without_copied_sizes")
def back_to_back():
    merged = private.optimize_once(private.all_optimizers()["remove_back_to_back"](), reshaped([6, 4], [8, 3]))
    assert reshapes(merged) == 1
    optimizer = private.without_copied_sizes()()
    assert reshapes(private.optimize_once(optimizer, reshaped([6, 4], [8, 3]))) == 1
    assert optimizer.graph_been_opt in (False, True)
    kept = private.optimize_once(private.without_copied_sizes()(), reshaped([6, 4], [0, 2, 2]))
    assert reshapes(kept) == 2


def test_every_function_has_a_test():
    TF2ONNX.check_complete()


@pytest.mark.parametrize("names", TF2ONNX.tests)
def test_tf2onnx_has_what_is_relied_on(names):
    TF2ONNX.check(names)
