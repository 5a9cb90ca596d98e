"""An exported file, and what is known about it."""

import dataclasses
import functools
import os
import pathlib
from typing import Any

from tfcompress.data.named_inputs import TensorInfo
from tfcompress.export.file_arithmetic import read_arithmetic
from tfcompress.export.plan.export_plan import ExportPlan
from tfcompress.export.plan.file_operators import Operators
from tfcompress.parity.tolerance import OutputParity, Parity
from tfcompress.runtime import integer_io
from tfcompress.runtime.external_data import external_files
from tfcompress.runtime.opening import open_runner
from tfcompress.runtime.runner import Runner


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A `.tflite` or `.onnx` file on disk.

    Attributes:
        path: of the file.
        format: "tflite" or "onnx".
        precision: as read in the file: "float32", "float16", or of a quantized model such as "int8" or "int8 weights".
        nbytes: size of the file in bytes, with that of `data_files`.
        inputs: {name: TensorInfo(shape, dtype)}, in the model's order; None in a shape: any size.
        outputs: likewise.
        parity: the differences to Keras, measured before the file got its name; None: not verified.
        notes: what a reader should know beside: that training ended before a schedule of pruning; which zeros
            aren't stored, with `sparse`; how the states of a streaming model are used.
        operators: how many of the file's operators compute in integers, and which in float and why (which layer is
            known of an exported model alone).
        data_files: the files beside it that hold its weights, where an ONNX model has them outside; they go where it
            goes.
        plan: of a model that was exported: what each operator was to compute in, and why; None: not known.
    """

    path: pathlib.Path
    format: str
    precision: str
    nbytes: int
    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    parity: Parity | None = None
    notes: tuple[str, ...] = ()
    operators: Operators | None = None
    data_files: tuple[pathlib.Path, ...] = ()
    plan: ExportPlan | None = None

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.format}, {self.precision}, {self.nbytes:,} bytes"]
        if self.data_files:
            lines[0] += f" with those of {', '.join(file.name for file in self.data_files)}, which belongs to it"
        for kind, tensors in (("input", self.inputs), ("output", self.outputs)):
            for name, info in tensors.items():
                shape = ", ".join("any" if size is None else str(size) for size in info.shape)
                lines.append(f"  {kind} {name}: {info.dtype} ({shape})")
        for name, parity in (self.parity.outputs if self.parity else {}).items():
            lines.append(f"  {name} differs from Keras by at most {_difference(parity)}, ")
            lines[-1] += f"argmax equal in {parity.argmax_agreement:.1%}"
        if self.parity:
            lines.append(f"  compared on {self.parity}")
        lines += [f"  {line}" for line in (*(self.operators.lines() if self.operators else ()), *self.notes)]
        return "\n".join(lines)

    def __fspath__(self) -> str:
        """Let it stand where the path of a file can."""
        return os.fspath(self.path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Artifact":
        """Open a file that was written before, by anyone.

        Args:
            path: ends in `.tflite` or `.onnx`.

        Returns:
            An `Artifact` without parity.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the suffix is unknown, or the runtime refuses the file.
        """
        runner = open_runner(path)
        file = pathlib.Path(path)
        arithmetic = read_arithmetic(file)
        specs = runner.input_specs, runner.output_specs
        data = tuple(external_files(file)) if runner.format == "onnx" else ()
        size = sum(each.stat().st_size for each in (file, *data))
        how: dict[str, Any] = {"operators": arithmetic.counted(), "data_files": data}
        return cls(file, runner.format, arithmetic.precision, size, *specs, **how)

    def predict(self, x: Any) -> Any:
        """Run the file on any number of samples, in the runtime that will run it.

        Args:
            x: an array (one input), a list of arrays in the order of `inputs`, or a dict by input name. For an
                integer input of a quantized model, values of its own integer dtype go in as they are, all others
                (floats) are quantized with its scale and zero point.

        Returns:
            An array, or for several outputs a dict {output name: array}. Integer outputs of a quantized model are
            turned into floats with their scale and zero point, unless its inputs were given as integers.

        Raises:
            ValueError: `x` doesn't fit the inputs.
        """
        return integer_io.predict(self._runner, x)

    @functools.cached_property
    def _runner(self) -> Runner:
        return open_runner(self.path)


def _difference(parity: OutputParity) -> str:
    if parity.max_steps is None or parity.equal is None:
        return f"{parity.max_abs:.2g} ({parity.max_rel:.2g} of the largest)"
    return f"{parity.max_abs:.2g} ({parity.max_steps:.0f} steps of its grid, {parity.equal:.1%} equal)"
