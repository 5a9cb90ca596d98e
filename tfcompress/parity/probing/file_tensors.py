"""What a file computes on the way: any tensor inside a `.tflite` or `.onnx` file, as real numbers."""

from __future__ import annotations

import abc
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfcompress.core.locking import no_warnings
from tfcompress.core.quiet_output import quiet
from tfcompress.graph.index import TensorIndex
from tfcompress.runtime.external_data import check_outside
from tfcompress.runtime.integer_io import METADATA, QUANTIZERS
from tfcompress.runtime.onnx_functions import inlined
from tfcompress.runtime.opening import open_runner
from tfcompress.runtime.runner import format_of

FLOATS = (0, 1, 10, 11, 16)
"""ONNX' numbers for float, half, double and bfloat16, and for an unknown type."""

SHAPING = ("RESHAPE", "EXPAND_DIMS", "SQUEEZE", "TRANSPOSE", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Identity")
"""Operators that give the values that they get in another shape."""

QUANTIZE = "/quantize"
"""What the name of a QuantizeLinear node ends with, behind that of the quantizer."""


@dataclasses.dataclass(frozen=True)
class FileTensor:
    """A tensor that a file computes.

    Attributes:
        name: in the file.
        key: what the observer knows it by.
        shape: None for a free size, or for an unknown shape.
        scale: of its integers; None: it is float.
        zero_point: the integer that stands for zero.
        real_numbers: whether its values are floats, or integers whose scale is known.
        same_as: the key of the tensor that has the same values in another shape; None: they are computed.
        dtype: of the stored values.
    """

    name: str
    key: Any
    shape: tuple[int | None, ...] | None
    scale: float | None = None
    zero_point: int = 0
    real_numbers: bool = True
    same_as: Any = None
    dtype: str = "float32"

    def real(self, values: np.ndarray) -> np.ndarray:
        """Return what stored values stand for, float64."""
        wide = values.astype(np.float64)
        return wide if self.scale is None else (wide - self.zero_point) * self.scale


class Observer(abc.ABC):
    """A file whose inner tensors can be read.

    Attributes:
        tensors: what can be observed, in the order in which it is computed.
        named: {name of a quantizer: tensor}, as the file itself says; empty where it doesn't.
        inputs: {name of an input: tensor}.
        outputs: {name of an output: tensor}.
        rounded: {key of a float tensor: the tensor of integers that it becomes, or is made of}; kernels that compute in
            integers may be written as float ones between such steps.
    """

    tensors: list[FileTensor]
    named: dict[str, FileTensor]
    inputs: dict[str, FileTensor]
    outputs: dict[str, FileTensor]
    rounded: Mapping[Any, FileTensor] = {}

    @property
    def are_named(self) -> bool:
        """Whether what is computed between inputs and outputs has names."""
        ends = {tensor.key for tensor in (*self.inputs.values(), *self.outputs.values())}
        return all(tensor.name for tensor in self.tensors if tensor.key not in ends)

    @abc.abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray], wanted: Sequence[FileTensor]) -> list[np.ndarray]:
        """Run the file once; return the real values of the tensors that are wanted.

        Args:
            inputs: {input name: array of the file's dtype}, as many samples as the file takes at once.
            wanted: the same at each call.
        """


def open_observer(path: str | os.PathLike[str]) -> Observer:
    """Open a file that was written by anyone, to look into it.

    Args:
        path: of the file; or its artifact, which knows the names of tensors that the file doesn't say.

    Raises:
        ValueError: the suffix is unknown, or the runtime refuses the file.
        FileNotFoundError: there is no such file.
    """
    open_runner(path)  # for what it raises
    file = pathlib.Path(path)
    names = getattr(path, "tensor_names", ())
    return TFLiteObserver(file, names) if format_of(path) == "tflite" else ONNXObserver(file, names)


class TFLiteObserver(Observer):
    """A `.tflite` file in an interpreter that keeps all tensors.

    Args:
        path: of the file.
        names: of its tensors, by their places, where it has none.
    """

    def __init__(self, path: pathlib.Path, names: Sequence[str] = ()) -> None:
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.interpreter import Interpreter

        runner = open_runner(path)
        starts, ends = runner.details  # type: ignore[attr-defined]
        with quiet(), no_warnings():  # it warns that this takes memory
            self._interpreter = Interpreter(model_path=str(path), experimental_preserve_all_tensors=True, num_threads=1)
        details = {int(detail["index"]): detail for detail in self._interpreter.get_tensor_details()}
        for place, name in enumerate(names):
            if place in details and not details[place]["name"]:
                details[place]["name"] = name
        model = schema.Model.GetRootAs(np.fromfile(path, np.uint8), 0)
        kinds = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
        graph = model.Subgraphs(0)
        same_as: dict[int, int | None] = {int(detail["index"]): None for detail in starts.values()}
        computed = set(same_as)  # from the inputs; what is made of constants alone, unpacked weights, is no activation
        operators = [_operator(graph.Operators(place)) for place in range(graph.OperatorsLength())]
        index = TensorIndex(operators, (int(detail["index"]) for detail in ends.values()))
        reals: dict[int, int] = {}  # what real numbers are made of
        for operator, given, made in operators:
            kind = kinds[model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()]
            shaping = kind in SHAPING
            reals.update(dict.fromkeys(made, given[0]) if kind == "DEQUANTIZE" else {})
            if computed.isdisjoint(given):
                continue
            computed.update(made)
            for x in made:
                if x in details and (index.readers(x) or index.is_output(x)):  # what nothing reads of a loop isn't kept
                    same_as[x] = given[0] if shaping else None
        known = {x: _tflite_tensor(details[x], source) for x, source in same_as.items()}
        self.tensors = list(known.values())
        self.rounded = {x: known[origin] for x, origin in reals.items() if x in known and origin in known}
        self.named = {}
        self.inputs = {name: known[int(detail["index"])] for name, detail in starts.items()}
        self.outputs = {name: known.get(int(detail["index"]), _tflite_tensor(detail)) for name, detail in ends.items()}
        self._sizes: dict[int, tuple[int, ...]] = {}

    def run(self, inputs: Mapping[str, np.ndarray], wanted: Sequence[FileTensor]) -> list[np.ndarray]:
        """Run the file once (see `Observer.run`)."""
        sizes = {self.inputs[name].key: array.shape for name, array in inputs.items()}
        if sizes != self._sizes:
            for index, shape in sizes.items():
                self._interpreter.resize_tensor_input(index, shape)
            with quiet():
                self._interpreter.allocate_tensors()
            self._sizes = sizes
        for name, array in inputs.items():
            self._interpreter.set_tensor(self.inputs[name].key, array)
        self._interpreter.invoke()
        return [tensor.real(self._interpreter.get_tensor(tensor.key)) for tensor in wanted]


def _operator(operator: Any) -> tuple[Any, list[int], list[int]]:
    """Return an operator of a TFLite file with the tensors that it reads and makes."""
    given = operator.InputsAsNumpy() if operator.InputsLength() else ()
    made = operator.OutputsAsNumpy() if operator.OutputsLength() else ()
    return operator, [int(x) for x in given], [int(x) for x in made]


def _tflite_tensor(detail: Mapping[str, Any], same_as: int | None = None) -> FileTensor:
    grid = detail["quantization_parameters"]
    shape = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    sizes = tuple(None if size < 0 else int(size) for size in shape)
    dtype = np.dtype(detail["dtype"])
    how: dict[str, Any] = {"same_as": same_as, "dtype": dtype.name}
    if len(grid["scales"]) != 1:
        return FileTensor(detail["name"], int(detail["index"]), sizes, real_numbers=dtype.kind == "f", **how)
    scale, zero_point = float(grid["scales"][0]), int(grid["zero_points"][0])
    return FileTensor(detail["name"], int(detail["index"]), sizes, scale, zero_point, **how)


class ONNXObserver(Observer):
    """A `.onnx` file, a copy of which has the wanted tensors as further outputs.

    Of a quantized tensor the integers are taken, from before its DequantizeLinear: as an output they don't keep the
    runtime from fusing what is around them.

    Args:
        path: of the file.
        called: what its nodes make was called, in their order, where its own names say nothing.
    """

    def __init__(self, path: pathlib.Path, called: Sequence[str] = ()) -> None:
        import onnx

        self._path = path
        loaded = onnx.load(os.fspath(path), load_external_data=False)  # of values only scales are looked at
        made = [name for node in loaded.graph.node for name in node.output]
        self._called = dict(zip(made, called, strict=False))
        self._proto = inlined(loaded)
        check_outside(self._proto, path)
        graph = self._proto.graph
        self._session: Any = None
        inferred = onnx.shape_inference.infer_shapes(self._proto).graph
        values = (*inferred.input, *inferred.value_info, *inferred.output)
        self._shapes = {value.name: _onnx_shape(value) for value in values}
        self._types = {value.name: value.type.tensor_type.elem_type for value in values}
        constants = {tensor.name: tensor for tensor in graph.initializer}
        found: dict[str, FileTensor] = {}
        for value in graph.input:
            how: dict[str, Any] = {"dtype": self._dtype(value.name)}
            found[value.name] = FileTensor(value.name, value.name, self._shapes.get(value.name), **how)
        known = set(constants)  # and what is made of constants alone: unpacked weights are no activations
        for node in graph.node:
            inner = any(attribute.HasField("g") for attribute in node.attribute)  # may read what is around it
            if not inner and known.issuperset(filter(None, node.input)):
                known.update(node.output)
                continue
            for name in filter(None, node.output):
                found[name] = self._tensor(node, name, constants)
        entries = {entry.key: entry.value for entry in self._proto.metadata_props}
        for name, grid in json.loads(entries.get(METADATA, "{}")).items():  # of integer borders no node says it
            scale, zero_point = float(grid["scale"]), int(grid["zero_point"])
            found[name] = dataclasses.replace(found[name], scale=scale, zero_point=zero_point, real_numbers=True)
        names = json.loads(entries.get(QUANTIZERS, "{}"))
        found = {key: dataclasses.replace(one, name=self._called.get(key, one.name)) for key, one in found.items()}
        self.tensors = list(found.values())
        self.named = {layer: found[name] for layer, name in names.items() if name in found}
        self.named |= {name: found[key] for key, name in self._called.items() if key in found}
        for node in graph.node:  # where what follows works on the integers, there is no such tensor of real numbers
            if node.op_type == "QuantizeLinear" and node.name.endswith(QUANTIZE):
                self.named.setdefault(node.name.removesuffix(QUANTIZE), found[node.output[0]])
        steps = (node for node in graph.node if node.op_type == "QuantizeLinear" and node.output[0] in found)
        self.rounded = {node.input[0]: found[node.output[0]] for node in steps}
        self.inputs = {value.name: found[value.name] for value in graph.input if value.name not in constants}
        self.outputs = {value.name: found[value.name] for value in graph.output if value.name in found}

    def _tensor(self, node: Any, name: str, constants: Mapping[str, Any]) -> FileTensor:
        from onnx import numpy_helper

        shape = self._shapes.get(name)
        same_as = node.input[0] if node.op_type in SHAPING else None
        how: dict[str, Any] = {"same_as": same_as, "dtype": self._dtype(name)}
        plain = FileTensor(name, name, shape, real_numbers=self._types.get(name, 1) in FLOATS, **how)
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return plain
        if node.input[0] in constants or node.input[1] not in constants:
            return plain
        if math.prod(constants[node.input[1]].dims) != 1:
            return plain
        scale = numpy_helper.to_array(constants[node.input[1]])
        zero_point = np.zeros(1, np.uint8)
        if len(node.input) > 2 and node.input[2] in constants:
            zero_point = numpy_helper.to_array(constants[node.input[2]]).reshape(-1)
        key = node.input[0] if node.op_type == "DequantizeLinear" else name
        grid = float(scale.reshape(-1)[0]), int(zero_point[0])
        return FileTensor(name, key, shape, *grid, dtype=zero_point.dtype.name)

    def _dtype(self, name: str) -> str:
        import onnx

        kind = self._types.get(name, 0)
        return str(onnx.helper.tensor_dtype_to_np_dtype(kind).name) if kind else "float32"

    def run(self, inputs: Mapping[str, np.ndarray], wanted: Sequence[FileTensor]) -> list[np.ndarray]:
        """Run the file once (see `Observer.run`)."""
        if self._session is None:
            self._session = self._with_outputs({tensor.key for tensor in wanted})
        keys = list(dict.fromkeys(tensor.key for tensor in wanted))
        computed = [key for key in keys if key not in inputs]
        values = {**inputs, **dict(zip(computed, self._session.run(computed, dict(inputs)), strict=True))}
        return [tensor.real(values[tensor.key]) for tensor in wanted]

    def _with_outputs(self, keys: set[str]) -> Any:
        import onnx
        import onnxruntime

        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        there = {value.name for value in proto.graph.output}
        inputs = {value.name for value in proto.graph.input}
        proto.graph.output.extend(onnx.ValueInfoProto(name=key) for key in sorted(keys - there - inputs))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        folder = os.path.dirname(os.path.realpath(self._path))  # where other files may hold some of the weights
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        with quiet():
            return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _onnx_shape(value: Any) -> tuple[int | None, ...] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim)
