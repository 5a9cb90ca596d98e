#!/usr/bin/env bash
# onnxruntime 1.32.0: a Gemm between DequantizeLinear and QuantizeLinear becomes the integer kernel QGemm only if the
# DequantizeLinear of its weights has a zero point. ONNX leaves that input out where it is 0, as in symmetric weights;
# without it the same numbers are computed in float, and nothing is said. Convolutions become integer ones either way,
# and so do Gemms whose bias alone lacks it.
# Fails if the Gemm without it is an integer kernel.
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

node = helper.make_node


def run(operator, left_out=()):
    """Return the operators that the runtime makes of a quantized one, and its output."""
    size = (8,) if operator == "Gemm" else (8, 5, 5)
    kernel = (8, 4) if operator == "Gemm" else (4, 8, 3, 3)
    constants = {
        "x_scale": np.float32(0.05), "x_zero": np.int8(3), "y_scale": np.float32(0.1), "y_zero": np.int8(0),
        "w": np.random.default_rng(0).integers(-127, 128, kernel).astype("int8"),
        "w_scale": np.full(4, 0.01, "float32"), "w_zero": np.zeros(4, "int8"),
        "b": np.arange(4, dtype="int32") * 100, "b_scale": np.full(4, 0.0005, "float32"), "b_zero": np.zeros(4, "int32"),
    }
    zeros = {name: [] if name in left_out else [f"{name}_zero"] for name in "wb"}
    nodes = [
        node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_int"]),
        node("DequantizeLinear", ["x_int", "x_scale", "x_zero"], ["x_real"]),
        node("DequantizeLinear", ["w", "w_scale", *zeros["w"]], ["w_real"], axis=1 if operator == "Gemm" else 0),
        node("DequantizeLinear", ["b", "b_scale", *zeros["b"]], ["b_real"], axis=0),
        node(operator, ["x_real", "w_real", "b_real"], ["y_real"]),
        node("QuantizeLinear", ["y_real", "y_scale", "y_zero"], ["y_int"]),
        node("DequantizeLinear", ["y_int", "y_scale", "y_zero"], ["y"]),
    ]
    shapes = {"x": size, "y": (4,) if operator == "Gemm" else (4, 3, 3)}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape]) for name, shape in shapes.items()]
    used = {name for each in nodes for name in each.input}
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = "optimized.onnx"
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(3, *size)).astype("float32")
    return [each.op_type for each in onnx.load("optimized.onnx").graph.node], session.run(None, {"x": x})[0]


expected = run("Gemm")[1]
for operator, left_out in (("Gemm", ""), ("Gemm", "b"), ("Gemm", "w"), ("Gemm", "wb"), ("Conv", "wb")):
    operators, y = run(operator, left_out)
    print(f"{operator}, zero points left out of: {' and '.join(left_out) or 'none'}: {operators}")
    integer = {"Gemm": "QGemm", "Conv": "QLinearConv"}[operator] in operators
    assert integer == (operator == "Conv" or "w" not in left_out)
    assert operator == "Conv" or np.abs(y - expected).max() < 0.11
PYTHON
echo "as described: a Gemm whose weights have no zero point stays float"
