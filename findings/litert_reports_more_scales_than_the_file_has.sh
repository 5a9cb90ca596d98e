#!/usr/bin/env bash
# ai-edge-litert 2.3.0: get_tensor_details() doesn't always say what the file says. The weights of a FULLY_CONNECTED
# that are stored with one scale have one scale before allocate_tensors(), and five equal ones, one for each output,
# after it, with the default kernels (XNNPACK). Without delegates, and with the reference kernels, it stays one. So
# whether a file is quantized per channel can't be told from an interpreter that has allocated.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tensorflow==2.21.0 ai-edge-litert==2.3.0 numpy==2.4.6
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tensorflow.lite.python import schema_py_generated as schema

weights = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
quantize = tf.quantization.fake_quant_with_min_max_vars
module = tf.Module()
module.run = tf.function(
    lambda x: quantize(tf.matmul(quantize(x, -4, 4), quantize(weights, -3, 3, narrow_range=True)), -16, 16),
    input_signature=[tf.TensorSpec((1, 8), name="x")],
)
convert = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
convert.optimizations = [tf.lite.Optimize.DEFAULT]
file = convert.convert()
graph = schema.Model.GetRootAsModel(file, 0).Subgraphs(0)
(stored,) = [
    graph.Tensors(i).Quantization().ScaleLength()
    for i in range(graph.TensorsLength())
    if graph.Tensors(i).ShapeAsNumpy().tolist() == [5, 8]
]


def reported(kernels):
    """Return how many scales the weights are said to have, before and after memory is allocated."""
    interpreter = Interpreter(model_content=file, experimental_op_resolver_type=kernels)
    counts = []
    for _ in range(2):
        (details,) = [d for d in interpreter.get_tensor_details() if d["shape"].tolist() == [5, 8]]
        assert len(set(details["quantization_parameters"]["scales"].tolist())) == 1
        counts.append(len(details["quantization_parameters"]["scales"]))
        interpreter.allocate_tensors()
    return counts


default = reported(OpResolverType.AUTO)
optimized = reported(OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
reference = reported(OpResolverType.BUILTIN_REF)
print("stored", stored, "default", default, "optimized", optimized, "reference", reference)
assert stored == 1 and default == [1, 5] and optimized == reference == [1, 1]
PYTHON
echo "as described: after allocation, more scales are reported than the file has"
