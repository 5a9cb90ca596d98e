"""`.onnx` files in ONNX Runtime."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcompress.core.quiet_output import quiet
from tfcompress.data.named_inputs import TensorInfo
from tfcompress.runtime.runner import Runner, refusals


class ONNXRunner(Runner):
    """A `.onnx` file in an ONNX Runtime session on the CPU."""

    format = "onnx"
    runtime = ("onnxruntime", "ONNX Runtime")

    def __init__(self, path: pathlib.Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        with quiet():
            self.session = onnxruntime.InferenceSession(
                os.path.realpath(path), options, providers=["CPUExecutionProvider"]
            )
        super().__init__(
            path,
            threads,
            {value.name: _onnx_info(value) for value in self.session.get_inputs()},
            {value.name: _onnx_info(value) for value in self.session.get_outputs()},
        )

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the file once (see `Runner.run`)."""
        with refusals(self.path, inputs):
            return dict(zip(self.output_names, self.session.run(self.output_names, dict(inputs)), strict=True))


_ONNX_DTYPES = {"float": "float32", "double": "float64"}


def _onnx_info(value: Any) -> TensorInfo:
    dtype = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape or ())
    return TensorInfo(shape, _ONNX_DTYPES.get(dtype, dtype))
