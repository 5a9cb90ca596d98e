"""Reshapes that are left out, and those that are written as Flatten."""

import numpy as np
import onnx
import onnx.reference
import pytest

from tfcompress.export.onnx.reshapes import reshape_less


def model(shape, target, behind=True):
    """x, a Reshape to the target, and a Neg behind it."""
    make = onnx.helper.make_node
    nodes = [make("Reshape", ["x", "target"], ["a"]), *([make("Neg", ["a"], ["y"])] if behind else [])]
    ends = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)]
    ends += [onnx.helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, [None] * len(target))]
    constants = [onnx.numpy_helper.from_array(np.array(target, np.int64), "target")]
    graph = onnx.helper.make_graph(nodes, "graph", ends[:1], ends[1:], constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])


@pytest.mark.parametrize(
    ("shape", "target", "kinds"),
    [
        (["n", 1, 28, 28], [-1, 1, 28, 28], ["Neg"]),
        ([2, 3], [2, 3], ["Neg"]),
        (["n", 4, 1, 3], [-1, 12], ["Flatten", "Neg"]),
        ([2, 4, 3], [2, 12], ["Flatten", "Neg"]),
        (["n", 4, 3], [-1, 3], ["Reshape", "Neg"]),  # rows of several samples
        (["n", "m", 3], [-1, 4, 3], ["Reshape", "Neg"]),
        ([2, 4, 3], [2, 3, 4], ["Reshape", "Neg"]),
    ],
)
def test_what_is_left(shape, target, kinds):
    proto = model(shape, target)
    before = onnx.reference.ReferenceEvaluator(proto.SerializeToString())
    reshape_less(proto)
    onnx.checker.check_model(proto, full_check=True)
    assert [node.op_type for node in proto.graph.node] == kinds
    x = np.arange(24, dtype=np.float32) if shape != [2, 3] else np.arange(6, dtype=np.float32)
    x = np.resize(x, [size if isinstance(size, int) else {"n": 2, "m": 4}[size] for size in shape])
    expected = before.run(None, {"x": x})[0]
    np.testing.assert_array_equal(onnx.reference.ReferenceEvaluator(proto).run(None, {"x": x})[0], expected)


def test_an_output_keeps_its_name():
    proto = model(["n", 3], [-1, 3], behind=False)
    reshape_less(proto)
    assert [list(node.output) for node in proto.graph.node] == [["a"]]
