#!/usr/bin/env bash
# onnxruntime 1.32.0 on x86-64, CPU: a product of float32 activations with weights in int4 or int8, which the file says
# as DequantizeLinear (a scale per block) and MatMul, all in float32, is fused into MatMulNBits by default, which also
# rounds the *activations* to 8 bits: values are off by .8 % of the largest, where the graph as written is right to
# 1e-6. The session's entry "session.qdq_matmulnbits_accuracy_level" = "1", or no optimization, gives that.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROWS, COLUMNS, BLOCK = 64, 32, 32
rng = np.random.default_rng(0)
x = rng.normal(size=(8, ROWS)).astype("float32")
integers = rng.integers(-7, 8, (ROWS, COLUMNS))
scales = rng.uniform(0.01, 0.02, (ROWS // BLOCK, COLUMNS)).astype("float32")
right = x.astype("float64") @ (integers * np.repeat(scales, BLOCK, axis=0).astype("float64"))


def error(kind, level=None, optimize=True):
    """Return the operators that the session runs, and its largest error, of the largest value."""
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["integers", "scales"], ["weights"], axis=0, block_size=BLOCK),
            helper.make_node("MatMul", ["x", "weights"], ["y"]),
        ],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (None, ROWS))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (None, COLUMNS))],
        [
            helper.make_tensor("integers", kind, (ROWS, COLUMNS), integers.ravel().tolist()),
            numpy_helper.from_array(scales, "scales"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = "optimized.onnx"
    if level:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", level)
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (y,) = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})
    operators = [node.op_type for node in onnx.load("optimized.onnx").graph.node]
    return operators, float(np.abs(y - right).max() / np.abs(right).max())


for name, kind in (("int4", TensorProto.INT4), ("int8", TensorProto.INT8)):
    default, exact, written = error(kind), error(kind, level="1"), error(kind, optimize=False)
    print(name, "default", default, "level 1", exact, "not optimized", written)
    assert default[0] == exact[0] == ["MatMulNBits"], (default, exact)
    assert written[0] == ["DequantizeLinear", "MatMul"], written
    assert exact[1] < 1e-6 and written[1] < 1e-6 and default[1] > 2e-3, (default, exact, written)
PYTHON
echo "as described: activations are rounded by default"
