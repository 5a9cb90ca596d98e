"""Which operators TFLite Micro's Python interpreter has: it is given a file of each.

python -m benchmarks.tflm_operators [--write]
"""

from __future__ import annotations

import importlib.metadata
import pathlib
import sys
import tempfile
import textwrap

import numpy as np

import tfcompress
from tfcompress.runtime.tflm_process import TFLMError, TFLMProcess
from tfcompress.runtime.tflm_runner import MISSING
from tfcompress.targets import OperatorSet

KEPT = pathlib.Path(tfcompress.__file__).parent / "targets" / "data" / "operators" / "tflm.yaml"
OTHERS = ("CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES")
"""Codes that are no operators."""


def file_of(code: int) -> bytes:
    """Return a file with one operator, which needn't make sense of its inputs."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    kind = schema.OperatorCodeT()
    kind.builtinCode, kind.deprecatedBuiltinCode, kind.version = code, min(code, 127), 1
    graph.tensors = [schema.TensorT() for _ in range(2)]
    for tensor, name in zip(graph.tensors, (b"x", b"y"), strict=True):
        tensor.shape, tensor.type, tensor.buffer, tensor.name = np.array([1, 4], np.int32), 0, 0, name
    graph.inputs = operator.inputs = np.array([0], np.int32)
    graph.outputs = operator.outputs = np.array([1], np.int32)
    operator.opcodeIndex, graph.operators = 0, [operator]
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [kind], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def is_known(code: int) -> bool:
    """Return whether TFLite Micro has an operator; each is tried in a process of its own."""
    process = TFLMProcess()
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(file_of(code))
        file.flush()
        try:
            process.ask("open", path=file.name, arena=1 << 20, inputs=1, outputs=1)
        except TFLMError as error:
            return MISSING not in str(error)
        finally:
            process.close()
    return True


def known() -> tuple[str, ...]:
    """Return the names of all operators that TFLite Micro has."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    codes = {name: code for name, code in vars(BuiltinOperator).items() if isinstance(code, int)}
    return tuple(sorted(name for name, code in codes.items() if name not in OTHERS and is_known(code)))


def main() -> None:
    """Print what differs from what is kept, or keep what was found."""
    found, kept = known(), OperatorSet.get("tflm")
    new, gone = {*found} - {*kept.operators}, {*kept.operators} - {*found}
    print(f"{len(found)} operators; new {sorted(new)}, gone {sorted(gone)}")
    if "--write" in sys.argv:
        text = KEPT.read_text()
        before, _, rest = text.partition("operators: [")
        _, _, after = rest.partition("]")
        listed = "\n  ".join(textwrap.wrap(", ".join(found), 112))
        before = before.replace(kept.version, importlib.metadata.version("tflite-micro")[: len("0.dev20261023")])
        KEPT.write_text(f"{before}operators: [\n  {listed},\n]{after}")


if __name__ == "__main__":
    main()
