"""Files of one operator, and what the runtimes give for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a TFLite file: its shape, the scale and zero point of its integers, the values of a constant."""

    shape: tuple[int, ...]
    scale: Any = None
    zero_point: int = 0
    values: np.ndarray | None = None
    axis: int = 0


def tflite(kind: str, version: int, tensors: Sequence[Tensor], options: Mapping[str, Any] | None = None) -> bytes:
    """Return a file of one operator, whose last tensor is its output and the others its inputs, in order."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph, operator, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    model.version, model.buffers, graph.tensors = 3, [schema.BufferT()], []
    for place, given in enumerate(tensors):
        made = schema.TensorT()
        made.name, made.shape, made.buffer = f"tensor_{place}".encode(), np.array(given.shape, np.int32), 0
        dtype = "int8" if given.values is None else given.values.dtype.name
        made.type = getattr(schema.TensorType, dtype.upper())
        if given.values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(given.values).tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        if given.scale is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = np.atleast_1d(np.asarray(given.scale, np.float32))
            made.quantization.zeroPoint = np.full(made.quantization.scale.shape, given.zero_point, np.int64)
            made.quantization.quantizedDimension = given.axis
        graph.tensors.append(made)
    count = len(tensors) - 1
    operator.opcodeIndex, operator.inputs = 0, np.arange(count, dtype=np.int32)
    operator.outputs = np.array([count], np.int32)
    if options is not None:
        name = options["kind"]
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        operator.builtinOptions = getattr(schema, f"{name}T")()
        for key, value in options.items():
            if key != "kind":
                setattr(operator.builtinOptions, key, value)
    code.builtinCode, code.version = getattr(schema.BuiltinOperator, kind), version
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    graph.inputs = np.array([at for at, one in enumerate(tensors[:-1]) if one.values is None], np.int32)
    graph.outputs, graph.operators = operator.outputs, [operator]
    model.operatorCodes, model.subgraphs = [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def in_litert(content: bytes, inputs: Sequence[np.ndarray], reference: bool = False) -> np.ndarray:
    """Return what LiteRT gives for one sample, with XNNPACK or with its reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    for detail, values in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])).astype(int)


def in_micro(content: bytes, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return what TFLite Micro gives for one sample."""
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(content, arena_size=1 << 20)
    for place, values in enumerate(inputs):
        interpreter.set_input(values, place)
    interpreter.invoke()
    return np.array(interpreter.get_output(0)).astype(int)


def in_onnx_runtime(kind: str, inputs: Sequence[np.ndarray], constants: Sequence[Any], **attributes: Any) -> np.ndarray:
    """Return what ONNX Runtime gives for an operator of its own that takes integers and their scales.

    Args:
        kind: Such as "QLinearAdd".
        inputs: Those that are no constants.
        constants: In the order of the operator's inputs; `None` in the place of each of the others.
        **attributes: Of the operator.
    """
    import onnx
    import onnxruntime

    helper = onnx.helper
    given, stored, names = [], [], []
    left = iter(inputs)
    for place, value in enumerate(constants):
        names.append(f"tensor_{place}")
        if value is None:
            values = next(left)
            given.append((names[-1], values))
        else:
            stored.append(onnx.numpy_helper.from_array(np.asarray(value), names[-1]))
    domain = "" if kind in ("QLinearConv", "QLinearMatMul") else "com.microsoft"
    node = helper.make_node(kind, names, ["output"], domain=domain, **attributes)
    types = {np.dtype("uint8"): onnx.TensorProto.UINT8, np.dtype("int8"): onnx.TensorProto.INT8}
    ends = [helper.make_tensor_value_info(name, types[values.dtype], values.shape) for name, values in given]
    output = helper.make_tensor_value_info("output", types[given[0][1].dtype], None)
    graph = helper.make_graph([node], "graph", ends, [output], stored)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.array(session.run(None, dict(given))[0]).astype(int)
