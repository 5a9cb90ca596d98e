#!/usr/bin/env bash
# onnxruntime 1.32.0: NonZero of a constant is computed anew in each run, with all optimizations on. A Transpose, an Add or a
# GatherND of the same constant is folded when the file is loaded.
# Fails if NonZero is folded, or one of the others isn't.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def left(operator, inputs):
    """Return the operators that are left of one of constants, by whose output the input is multiplied."""
    value = np.array([[1, 0], [0, 1]], "int64")
    nodes = [
        helper.make_node(operator, inputs, ["folded"]),
        helper.make_node("Mul", ["x", "folded"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, [None] * (1 if operator == "GatherND" else 2))
    stored = [numpy_helper.from_array(value, "constant")]
    model = helper.make_model(
        helper.make_graph(nodes, "graph", [x], [y], stored), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.optimized_model_filepath = "optimized.onnx"
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.array([3], "int64")})[0].size
    return [node.op_type for node in onnx.load("optimized.onnx").graph.node]


for operator, inputs in (
    ("NonZero", ["constant"]),
    ("Transpose", ["constant"]),
    ("Add", ["constant", "constant"]),
    ("GatherND", ["constant", "constant"]),
):
    operators = left(operator, inputs)
    print(f"{operator} of constants, then Mul: {operators}")
    assert operators == (["NonZero", "Mul"] if operator == "NonZero" else ["Mul"])
PYTHON
echo "as described: NonZero of a constant stays"
