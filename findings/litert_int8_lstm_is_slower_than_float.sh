#!/usr/bin/env bash
# LiteRT 2.3.0 on x86: UNIDIRECTIONAL_SEQUENCE_LSTM with int8 weights and activations and a cell state of 16 bits, as the
# converter makes it for full integer quantization, takes many times as long as the same operator in float32 (here 32
# units, 10 inputs, 100 steps: 8 times as long). Its time grows with the number of units, not of weights: the
# sigmoid and the tanh of 16 bits are computed in fixed point, one number after the other.
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

STEPS, WIDTH, UNITS = 100, 10, 32
FLOAT, INT8, INT16, INT32 = (getattr(schema.TensorType, name) for name in ("FLOAT32", "INT8", "INT16", "INT32"))
NUMPY = {FLOAT: np.float32, INT8: np.int8, INT32: np.int32}
INPUT, WEIGHT, HIDDEN, CELL = 2.0**-5, 2.0**-8, 2.0**-7, 2.0**-11  # scales


def file_of(integers):
    """Return a file of one LSTM."""
    random = np.random.default_rng(0)
    model, graph, op = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], [schema.OperatorCodeT()]
    graph.tensors, graph.operators = [], [op]

    def tensor(shape, kind, scale, spread=0.0, variable=False):
        made = schema.TensorT()
        made.name, made.shape, made.type, made.isVariable = b"", np.array(shape, np.int32), FLOAT, variable
        if integers:
            made.type, made.quantization = kind, schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = np.float32([scale]), np.zeros(1, np.int64)
        if spread:
            values = np.rint(random.normal(0, spread, shape) / scale).clip(-127, 127)
            values = values if integers else values * scale
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(values.astype(NUMPY[made.type]).tobytes(), np.uint8)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    inputs = [-1] * 24
    inputs[0] = x = tensor((STEPS, 1, WIDTH), INT8, INPUT)
    inputs[1:5] = [tensor((UNITS, WIDTH), INT8, WEIGHT, 0.2) for _ in range(4)]
    inputs[5:9] = [tensor((UNITS, UNITS), INT8, WEIGHT, 0.1) for _ in range(4)]
    inputs[12:16] = [tensor((UNITS,), INT32, INPUT * WEIGHT, 0.01) for _ in range(4)]
    inputs[18] = tensor((1, UNITS), INT8, HIDDEN, variable=True)
    inputs[19] = tensor((1, UNITS), INT16, CELL, variable=True)
    y = tensor((STEPS, 1, UNITS), INT8, HIDDEN)
    if integers:
        scales = [(INT16, CELL)] * 4 + [(INT8, HIDDEN)]
        op.intermediates = np.array([tensor((0,), kind, scale) for kind, scale in scales], np.int32)
    number = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM
    code = model.operatorCodes[0]
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, number, 1
    op.inputs, op.outputs = np.array(inputs, np.int32), np.array([y], np.int32)
    op.builtinOptionsType = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions
    op.builtinOptions = options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction, options.timeMajor = schema.ActivationFunctionType.TANH, True
    graph.inputs, graph.outputs, model.subgraphs = np.array([x], np.int32), np.array([y], np.int32), [graph]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def runner(integers):
    """Return an interpreter, and what it makes of the same sequence, in real numbers."""
    interpreter = Interpreter(model_content=file_of(integers), num_threads=1)
    interpreter.allocate_tensors()
    x = np.rint(np.random.default_rng(1).normal(0, 1, (STEPS, 1, WIDTH)) / INPUT).clip(-128, 127)
    x = x.astype(np.int8) if integers else (x * INPUT).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).astype(np.float32)
    return interpreter, y * HIDDEN if integers else y


(floats, wanted), (integers, found) = runner(False), runner(True)
taken = {"float32": [], "int8": []}
for _ in range(15):
    for name, interpreter in (("float32", floats), ("int8", integers)):
        begun = time.process_time()
        for _ in range(20):
            interpreter.invoke()
        taken[name].append((time.process_time() - begun) / 20 * 1e6)
plain, whole = (min(times) for times in taken.values())
print(f"float32 {plain:.0f} us, int8 {whole:.0f} us: {whole / plain:.1f} times as long")
print(f"outputs up to {np.abs(wanted).max():.2f} differ by {np.abs(wanted - found).max():.3f} at most")
assert np.abs(wanted - found).max() < 0.1 * np.abs(wanted).max()
assert whole / plain > 3, taken
PYTHON
echo "as described: the int8 LSTM is slower"
