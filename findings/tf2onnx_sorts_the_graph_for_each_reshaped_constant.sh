#!/usr/bin/env bash
# tf2onnx 1.17.0 sorts the whole graph anew for each constant that it reshapes: a chain of n depthwise convolutions,
# whose kernels are reshaped, is sorted n + 5 times, 1,045 nodes in all for n = 10 and 13,735 for n = 40, while n
# ordinary convolutions are sorted 5 times. So this work grows with the square of the number of such layers.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tensorflow==2.21.0 tf2onnx==1.17.0 onnx==1.23.2 numpy==2.4.6
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import numpy as np
import tensorflow as tf
import tf2onnx
from tf2onnx.graph import Graph

sort, sorted_nodes = Graph.topological_sort, []


def counted(self, nodes):
    """Sort as before, and note how many nodes there were."""
    sorted_nodes.append(len(nodes))
    return sort(self, nodes)


Graph.topological_sort = counted
signature = [tf.TensorSpec((1, 8, 8, 4), tf.float32, "x")]


def sorts(convolution, shape, layers):
    """Return how often a chain of convolutions is sorted, and how many nodes that are together."""

    @tf.function(input_signature=signature, autograph=False)
    def chain(x):
        for seed in range(layers):
            kernel = np.random.default_rng(seed).normal(size=shape).astype("float32")
            x = tf.nn.relu(convolution(x, kernel, [1, 1, 1, 1], "SAME"))
        return x

    sorted_nodes.clear()
    tf2onnx.convert.from_function(chain, input_signature=signature, opset=18)
    return len(sorted_nodes), sum(sorted_nodes)


depthwise = {n: sorts(tf.nn.depthwise_conv2d, (3, 3, 4, 1), n) for n in (10, 20, 40)}
ordinary = {n: sorts(tf.nn.conv2d, (3, 3, 4, 4), n) for n in (10, 20, 40)}
print("layers: (sorts, nodes): depthwise", depthwise, "ordinary", ordinary)
assert all(count == n + 5 for n, (count, _) in depthwise.items()), depthwise
assert depthwise[40][1] > 10 * depthwise[10][1], depthwise
assert len({count for count, _ in ordinary.values()}) == 1, ordinary
assert ordinary[40][1] < 5 * ordinary[10][1], ordinary
PYTHON
echo "as described: a sort of the whole graph for each reshaped constant"
