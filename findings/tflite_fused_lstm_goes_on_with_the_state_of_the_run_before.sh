#!/usr/bin/env bash
# LiteRT 2.3.0: UNIDIRECTIONAL_SEQUENCE_LSTM keeps its hidden state and its cell state, which are variable tensors, from
# one invoke() to the next. The same input gives another output in each run, so a file with this operator, as the
# converter makes it of Keras 2 models, answers for the samples before, too; only reset_all_variables() between the runs
# gives the first output again. Nothing in the file says so, and the signature has no state.
# Fails if a release of LiteRT no longer does so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ai-edge-litert==2.3.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log"; exit 1; }
import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

STEPS, WIDTH, UNITS = 2, 2, 4
random = np.random.default_rng(0)
model, graph, op = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], [schema.OperatorCodeT()]
graph.tensors, graph.operators = [], [op]


def tensor(shape, values=None, variable=False):
    made = schema.TensorT()
    made.name, made.shape, made.type = b"", np.array(shape, np.int32), schema.TensorType.FLOAT32
    made.isVariable = variable
    if values is not None:
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
        made.buffer = len(model.buffers) - 1
    graph.tensors.append(made)
    return len(graph.tensors) - 1


def weights(*shape):
    return tensor(shape, random.normal(0, 1.5, shape))


inputs = [-1] * 24
inputs[0] = x = tensor((STEPS, 1, WIDTH))
inputs[1:5] = [weights(UNITS, WIDTH) for _ in range(4)]
inputs[5:9] = [weights(UNITS, UNITS) for _ in range(4)]
inputs[12:16] = [weights(UNITS) for _ in range(4)]
inputs[18:20] = [tensor((1, UNITS), variable=True) for _ in range(2)]
y = tensor((STEPS, 1, UNITS))
number = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM
model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = number
model.operatorCodes[0].version = 1
op.inputs, op.outputs = np.array(inputs, np.int32), np.array([y], np.int32)
op.builtinOptionsType = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions
op.builtinOptions = options = schema.UnidirectionalSequenceLSTMOptionsT()
options.fusedActivationFunction, options.timeMajor = schema.ActivationFunctionType.TANH, True
graph.inputs, graph.outputs, model.subgraphs = np.array([x], np.int32), np.array([y], np.int32), [graph]
builder = flatbuffers.Builder(1 << 12)
builder.Finish(model.Pack(builder), b"TFL3")

interpreter = Interpreter(model_content=bytes(builder.Output()))
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], random.normal(size=(STEPS, 1, WIDTH)).astype("f"))


def run():
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[-1, 0]


first, second = run(), run()
interpreter.reset_all_variables()
again = run()
print("first run:                   ", first)
print("second run, the same input:  ", second)
print("behind reset_all_variables():", again)
assert np.abs(first - second).max() > 0.05, (first, second)
assert np.array_equal(first, again), (first, again)
PYTHON
echo "as described: the second run goes on with the state of the first"
