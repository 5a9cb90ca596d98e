#!/usr/bin/env bash
# onnxruntime-web 1.30.0 in Node, WebAssembly on one thread: a depthwise 3x3 convolution quantized to int8 (a QDQ file of
# ONNX Runtime's own quantize_static, one scale for each channel) takes about four times as long as the float32 one. A
# 1x1 convolution of the same channels gets 1.6 times faster, a full 3x3 one 2.3 times. So int8 halves the time of
# ResNet50 in a browser and gains nothing on MobileNetV2. Whether activations and weights are int8 or uint8 makes no
# difference. Natively, onnxruntime 1.32.0 on x86-64, the 1x1 and the 3x3 ones are about three times faster in int8.
# Fails if int8 is no longer at least 1.8 times slower for the depthwise one, and faster for the 1x1 one. Needs Node.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 sympy==1.14.0
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" onnxruntime-web@1.30.0
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

CHANNELS, SIZE, LAYERS = 96, 56, 6
random = np.random.default_rng(0)


class Samples(CalibrationDataReader):
    def __init__(self):
        self.left = [random.normal(size=(1, CHANNELS, SIZE, SIZE)).astype(np.float32) for _ in range(2)]

    def get_next(self):
        return {"x": self.left.pop()} if self.left else None


def write(name, kernel, groups):
    """Write a stack of convolutions as float32, and as int8."""
    nodes, weights, last = [], [], "x"
    for layer in range(LAYERS):
        w = random.normal(size=(CHANNELS, CHANNELS // groups, kernel, kernel)) / (kernel * (CHANNELS // groups) ** 0.5)
        weights.append(numpy_helper.from_array(w.astype(np.float32), f"w{layer}"))
        weights.append(numpy_helper.from_array(np.zeros(CHANNELS, np.float32), f"b{layer}"))
        made = helper.make_node(
            "Conv", [last, f"w{layer}", f"b{layer}"], [f"y{layer}"],
            group=groups, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4,
        )
        nodes.append(made)
        last = f"y{layer}"
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE]) for n in ("x", last))
    graph = helper.make_graph(nodes, name, [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), f"{name}.float32.onnx")
    quantize_static(
        f"{name}.float32.onnx", f"{name}.int8.onnx", Samples(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )


write("depthwise", 3, CHANNELS)
write("pointwise", 1, 1)
PYTHON
cat > time.mjs <<'NODE'
import { createRequire } from "node:module";
const ort = createRequire(import.meta.url)("onnxruntime-web");
ort.env.wasm.numThreads = 1;
const shape = [1, 96, 56, 56];
const x = new ort.Tensor("float32", new Float32Array(96 * 56 * 56).map((_, i) => Math.sin(i)), shape);
const names = ["depthwise.float32", "depthwise.int8", "pointwise.float32", "pointwise.int8"];
const times = Object.fromEntries(names.map((name) => [name, []]));
const sessions = {};
for (const name of names) sessions[name] = await ort.InferenceSession.create(`${name}.onnx`, { executionProviders: ["wasm"] });
for (let round = 0; round < 25; round += 1) {
  for (const name of names) {
    const begun = performance.now();
    await sessions[name].run({ x });
    times[name].push(performance.now() - begun);
  }
}
const median = (name) => times[name].sort((a, b) => a - b)[12];
const depthwise = median("depthwise.int8") / median("depthwise.float32");
const pointwise = median("pointwise.int8") / median("pointwise.float32");
console.log(`int8 takes ${depthwise.toFixed(2)} times float32's time depthwise, ${pointwise.toFixed(2)} times in 1x1 convolutions`);
process.exit(depthwise > 1.8 && pointwise < 1 ? 0 : 1);
NODE
node time.mjs
echo "as described: int8 slows depthwise convolutions down in WebAssembly"
