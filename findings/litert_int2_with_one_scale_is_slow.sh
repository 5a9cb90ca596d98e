#!/usr/bin/env bash
# LiteRT 2.3.0: FULLY_CONNECTED with INT2 weights and one scale for the whole tensor takes many times as long as with the
# same scale written once for each output channel (here 512 x 512: 15 times on x86 with AVX512-VNNI). XNNPACK refuses the
# first, so LiteRT's own kernel unpacks the weights in each run. INT4 and INT8 are as fast either way.
# Fails if a release of LiteRT no longer does so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ai-edge-litert==2.3.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import time

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

SIZE = 512
TYPES = {8: schema.TensorType.INT8, 4: schema.TensorType.INT4, 2: schema.TensorType.INT2}


def file_of(bits, scales):
    """Return a file of one dense layer, activations int8."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], [schema.OperatorCodeT()]
    graph.tensors, graph.operators = [], [schema.OperatorT()]

    def tensor(shape, kind, scale, data=None):
        made, grid = schema.TensorT(), schema.QuantizationParametersT()
        grid.scale = np.full(scale[1], scale[0], np.float32)
        grid.zeroPoint = np.zeros(scale[1], np.int64)
        made.name, made.shape, made.type, made.quantization = b"", np.array(shape, np.int32), kind, grid
        if data is not None:
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data, made.buffer = np.frombuffer(data.tobytes(), np.uint8), len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    values = np.random.default_rng(0).integers(-1, 2, (SIZE * SIZE * bits // 8, 8 // bits)) & (2**bits - 1)
    packed = (values << np.arange(0, 8, bits)).sum(axis=1).astype(np.uint8)
    x = tensor((1, SIZE), schema.TensorType.INT8, (0.05, 1))
    weights = tensor((SIZE, SIZE), TYPES[bits], (0.01, scales), packed)
    bias = tensor((SIZE,), schema.TensorType.INT32, (0.0005, scales), np.zeros(SIZE, np.int32))
    y = tensor((1, SIZE), schema.TensorType.INT8, (0.05, 1))
    number = schema.BuiltinOperator.FULLY_CONNECTED
    code, op = model.operatorCodes[0], graph.operators[0]
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, number, 14
    op.inputs, op.outputs = np.array([x, weights, bias], np.int32), np.array([y], np.int32)
    op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    op.builtinOptions = schema.FullyConnectedOptionsT()
    graph.inputs, graph.outputs, model.subgraphs = np.array([x], np.int32), np.array([y], np.int32), [graph]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def microseconds(content):
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    taken = []
    for _ in range(20):
        begun = time.process_time()
        for _ in range(50):
            interpreter.invoke()
        taken.append((time.process_time() - begun) / 50 * 1e6)
    return min(taken)


ratios = {}
for bits in TYPES:
    one, each = (microseconds(file_of(bits, scales)) for scales in (1, SIZE))
    ratios[bits] = one / each
    print(f"INT{bits}: one scale {one:.1f} us, one for each channel {each:.1f} us")
assert ratios[2] > 5 and ratios[4] < 2 and ratios[8] < 2, ratios
PYTHON
