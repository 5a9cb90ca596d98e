"""An exported file, and what is known about it."""

import dataclasses
import functools
import os
import pathlib
import re
from typing import Any

from tfcompress.core.atomic_files import check_target
from tfcompress.data.named_inputs import TensorInfo
from tfcompress.export.c_array import described, is_c_name, write_c_array
from tfcompress.export.file_arithmetic import read_arithmetic
from tfcompress.export.onnx.weights.coding import CodedWeight
from tfcompress.export.plan.export_plan import ExportPlan
from tfcompress.export.plan.file_operators import Operators
from tfcompress.parity.tolerance import OutputParity, Parity
from tfcompress.runtime import integer_io
from tfcompress.runtime.arena import Arena
from tfcompress.runtime.external_data import external_files
from tfcompress.runtime.opening import open_runner
from tfcompress.runtime.runner import Runner, format_of
from tfcompress.runtime.tflm_runner import TFLMRunner
from tfcompress.targets import Target


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A `.tflite` or `.onnx` file on disk.

    Attributes:
        path: of the file.
        format: "tflite" or "onnx".
        precision: as read in the file: "float32", "float16", or of a quantized model such as "int8" or "int8 weights".
        nbytes: size of the file in bytes, with that of `data_files`.
        inputs: {name: TensorInfo(shape, dtype, scale, zero_point)}, in the model's order; None in a shape: any size;
            scale and zero point of quantized integers.
        outputs: likewise.
        parity: the differences to Keras, measured before the file got its name; None: not verified.
        notes: what a reader should know beside: that training ended before a schedule of pruning; which zeros
            aren't stored, with `sparse`; how the states of a streaming model are used.
        operators: how many of the file's operators compute in integers, and which in float and why (which layer is
            known of an exported model alone); `.kinds` counts all by kind, as a list of them for TensorFlow Lite Micro.
        data_files: the files beside it that hold its weights, where an ONNX model has them outside; they go where it
            goes.
        plan: of a model that was exported: what each operator was to compute in, and why; None: not known.
        weights: of a file that was exported with coded weights: how each is stored, and in how many bytes.
        arena: of a file that was proved in TFLite Micro: the RAM that it needs to be run.
        runtime: that runs it, as `tfc.evaluate` names it: of a target, what proved it; None: that of the format.
        accelerator: of a file for a target with an NPU: which (see `tfcompress.estimate_npu`).
        tensor_names: what the file's inner tensors are called, where the file itself doesn't say it, by their places.
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
    weights: tuple[CodedWeight, ...] = ()
    arena: Arena | None = None
    runtime: str | None = None
    accelerator: str | None = None
    tensor_names: tuple[str, ...] = dataclasses.field(default=(), repr=False)

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.format}, {self.precision}, {self.nbytes:,} bytes"]
        if self.data_files:
            lines[0] += f" with those of {', '.join(file.name for file in self.data_files)}, which belongs to it"
        for kind, tensors in (("input", self.inputs), ("output", self.outputs)):
            lines += [f"  {line}" for line in described(kind, tensors)]
        for name, parity in (self.parity.outputs if self.parity else {}).items():
            lines.append(f"  {name} differs from Keras by at most {_difference(parity)}, ")
            lines[-1] += f"argmax equal in {parity.argmax_agreement:.1%}"
        if self.parity:
            lines.append(f"  compared on {self.parity}")
        if self.arena:
            lines.append(f"  arena in TFLite Micro: {self.arena}")
        lines += [f"  {line}" for line in (*(self.operators.lines() if self.operators else ()), *self.notes)]
        return "\n".join(lines)

    def __fspath__(self) -> str:
        """Let it stand where the path of a file can."""
        return os.fspath(self.path)

    @classmethod
    def open(cls, path: str | os.PathLike[str], target: Target | None = None) -> "Artifact":
        """Open a file that was written before, by anyone.

        Args:
            path: ends in `.tflite` or `.onnx`.
            target: what it is for, whose runtime and accelerator it then has; None: not said.

        Returns:
            An `Artifact` without parity.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the suffix is unknown, or the runtime refuses the file.
        """
        meant = None if target is None else target.runtimes_of(format_of(path))[-1]
        runner = open_runner(path, runtime=meant)
        file = pathlib.Path(path)
        arithmetic = read_arithmetic(file)
        specs = integer_io.with_grids(runner.input_specs, runner), integer_io.with_grids(runner.output_specs, runner)
        data = tuple(external_files(file)) if runner.format == "onnx" else ()
        size = sum(each.stat().st_size for each in (file, *data))
        how: dict[str, Any] = {"operators": arithmetic.counted(), "data_files": data}
        how |= {"runtime": "tflm" if isinstance(runner, TFLMRunner) else meant}
        how |= {"accelerator": None if target is None else target.accelerator}
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

    def c_array(
        self, path: str | os.PathLike[str], *, name: str | None = None, overwrite: bool = False
    ) -> tuple[pathlib.Path, pathlib.Path]:
        """Write a `.tflite` file as an array of C++, for a microcontroller.

        The header tells, in comments, what inputs and outputs are and which operators the program has to register.

        Args:
            path: ends in `.cc`; the header is beside it, with `.h`.
            name: of the array, beside which there is its size, `{name}_size`; None: that of the file.
            overwrite: whether existing files may be replaced.

        Returns:
            The paths of the two files.

        Raises:
            ValueError: this is an ONNX file; another suffix; or `name` is none of C.
            FileExistsError: one of the files exists, and `overwrite` is False.
            OSError: they can't be written there.

        Example:
            >>> import keras, tempfile, tfcompress as tfc
            >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
            >>> folder = tempfile.mkdtemp()
            >>> source, header = tfc.export(model, f"{folder}/net.tflite").c_array(f"{folder}/net.cc")
            >>> [line for line in header.read_text().splitlines() if line.startswith("extern")]
            ['extern const unsigned char net[];', 'extern const unsigned int net_size;']
        """
        if self.format != "tflite":
            raise ValueError(
                f"Expected a .tflite file, which microcontrollers run. Received: {str(self.path)!r}. Export the model "
                "as .tflite."
            )
        target = check_target(path, ".cc", overwrite)
        check_target(target.with_suffix(".h"), ".h", overwrite)
        called = re.sub(r"\W", "_", target.stem) if name is None else name
        if not is_c_name(called):
            raise ValueError(
                "Expected `name` to be a name of C: letters, digits and underscores, and no word of the language. "
                f"Received: name={called!r}. Give another."
            )
        kinds = self.operators.kinds if self.operators else {}
        notes = [*described("input", self.inputs), *described("output", self.outputs)]
        notes.append(f"operators: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}")
        return target, write_c_array(target, called, self.path.read_bytes(), notes)

    @functools.cached_property
    def _runner(self) -> Runner:
        return open_runner(self.path, runtime=self.runtime)


def _difference(parity: OutputParity) -> str:
    if parity.max_steps is None or parity.equal is None:
        return f"{parity.max_abs:.2g} ({parity.max_rel:.2g} of the largest)"
    return f"{parity.max_abs:.2g} ({parity.max_steps:.0f} steps of its grid, {parity.equal:.1%} equal)"
