"""What `export` is asked for: what can be refused before any work."""

from __future__ import annotations

import os
from typing import Any

from tfcompress.core.arguments import check_choice, check_flag, check_model, is_whole, short
from tfcompress.core.limits import MOST
from tfcompress.export.coded_file import check_coded
from tfcompress.export.for_target import check_memory
from tfcompress.export.tflite.sparse import SPARSE
from tfcompress.export.writing import check_external, check_prefer
from tfcompress.graph.inputs.declared import check_given
from tfcompress.runtime.runner import format_of
from tfcompress.targets import Target
from tfcompress.tracing.random_inputs import check_noise
from tfcompress.tracing.recurrent_state import check_streaming
from tfcompress.tracing.row_counts import is_named_size
from tfcompress.tracing.signature import read_signature

PRECISIONS = ("float32", "float16")
FLOAT = "float32"
INFERENCE_IO = (FLOAT, "int8", "uint8")
OPSETS = tuple(range(18, 26))
NO_SPARSE_ONNX = (
    "sparse: ONNX Runtime has no kernels for sparse weights: all zeros are stored, and gone when the file is zipped."
)


def check_arguments(
    model: Any,
    path: Any,
    *,
    batch_size: Any,
    inference_io: Any,
    precision: Any,
    opset: Any,
    sparse: Any,
    require_integer: Any,
    stateful: Any,
    random: Any,
    external_data: Any,
    weights: Any,
    names: Any,
    prefer: Any,
    machine: Target | None,
    memory: tuple[int | None, int | None],
) -> str:
    """Refuse what can be refused before any work; return the format."""
    check_model(model)
    check_memory(machine, *memory)
    kind = format_of(path)
    if not (is_whole(batch_size) and 1 <= batch_size <= MOST) and not is_named_size(batch_size):
        raise ValueError(
            "Expected batch_size to be an integer of at least 1, None for any number of samples, or 'auto'. "
            f"Received: batch_size={short(batch_size)}."
        )
    check_choice("precision", precision, PRECISIONS)
    check_choice("inference_io", inference_io, INFERENCE_IO)
    check_choice("opset", int(opset) if is_whole(opset) else opset, OPSETS)
    check_choice("sparse", sparse, SPARSE)
    if sparse is True and kind == "onnx":
        raise ValueError(
            f"Expected sparse=False or 'auto' for a .onnx file. Received: sparse=True and {os.fspath(path)!r}. "
            f"{NO_SPARSE_ONNX}"
        )
    check_flag("require_integer", require_integer)
    check_flag("names", names)
    check_prefer(prefer, kind, path)
    check_external(external_data, kind, path)
    check_coded(model, weights, kind, path, machine is not None and "tflm" in machine.runtimes)
    signature = read_signature(model)
    specs = signature.inputs.values()
    declared = [spec.dtype for spec in specs] if signature.declared else None
    check_given(list(signature.inputs), [spec.shape for spec in specs], declared)
    check_streaming(model, stateful, batch_size, inference_io)
    check_noise(random, stateful, inference_io)
    return kind
