"""Run any `.tflite` or `.onnx` file, by the names of its inputs and outputs."""

import abc
import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfcompress.core.arguments import MOST_THREADS, cannot_run, check_count, check_path
from tfcompress.core.error_messages import told
from tfcompress.core.out_of_memory import memory_error, out_of_memory
from tfcompress.core.quiet_output import quiet
from tfcompress.core.uneven_rows import check_rows, cut, is_uneven
from tfcompress.data.named_inputs import TensorInfo, count_samples, fit_inputs
from tfcompress.runtime.external_data import check_outside

FORMATS = {".tflite": "tflite", ".onnx": "onnx"}
"""The format that each suffix stands for."""

DEFAULT_BATCH_SIZE = 32


def format_of(path: str | os.PathLike[str]) -> str:
    """Return "tflite" or "onnx", as the suffix of `path` says.

    Raises:
        ValueError: the suffix is another one.

    >>> format_of("model.onnx")
    'onnx'
    """
    suffix = pathlib.Path(check_path(path)).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(
            f"Expected a path that ends in {' or '.join(map(repr, FORMATS))}. Received: {os.fspath(path)!r}. "
            "Give the file the suffix of the format that it is to have."
        )
    return FORMATS[suffix]


class RuntimeRefusal(ValueError):
    """A runtime can't load or run a file.

    Args:
        message: What is to be said.
        reason: What the runtime raised.
    """

    def __init__(self, message: str, reason: Exception):
        super().__init__(message)
        self.reason = reason


@contextlib.contextmanager
def _refusals(path: pathlib.Path, given: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Raise what a runtime raises while it runs a file as `RuntimeRefusal`."""
    try:
        yield
    except Exception as error:  # each runtime raises its own, ONNX Runtime about a dozen
        shapes = {name: array.shape for name, array in given.items()}
        if is_uneven(given.values()):
            raise RuntimeRefusal(str(cannot_run(path.name, given, error)), error) from error
        raise RuntimeRefusal(
            f"Expected inputs that {path.name} can be run on. Received: {shapes}, on which its runtime failed: "
            f"{told(error)}. Give samples like those that the model was made for.",
            error,
        ) from error


class Runner(abc.ABC):
    """A model file, loaded by the runtime that will run it.

    Attributes:
        path: the file.
        format: "tflite" or "onnx".
        threads: how many threads one inference may use.
        input_specs: {input name: TensorInfo}, in the order of the file.
        output_specs: {output name: TensorInfo}, in the order of the file.
    """

    format: str

    def __init__(
        self,
        path: pathlib.Path,
        threads: int,
        input_specs: Mapping[str, TensorInfo],
        output_specs: Mapping[str, TensorInfo],
    ) -> None:
        self.path = path
        self.threads = threads
        self.input_specs = dict(input_specs)
        self.output_specs = dict(output_specs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs, in the order of the file."""
        return tuple(self.output_specs)

    @property
    def batch_size(self) -> int | None:
        """The number of samples that the file takes at once; None where any number will do."""
        sizes = {spec.shape[0] for spec in self.input_specs.values() if spec.shape}
        fixed = {size for size in sizes if size is not None}
        return min(fixed) if fixed else None

    @abc.abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the file once.

        Args:
            inputs: {input name: array of the shape and dtype in `input_specs`}.

        Returns:
            {output name: array}, in the order of the file.

        Raises:
            ValueError: the runtime fails on these inputs.
        """

    def predict(self, x: Any, batch_size: int | None = None) -> Any:
        """Run any number of samples, in batches.

        Args:
            x: an array (one input), a list of arrays in the order of `input_specs`, or a dict by input name.
                The first dimension counts the samples; inputs with different numbers of rows, as those of a graph,
                are given to the file as they are. A dtype is converted where that loses no meaning
                (float64 to float32, uint8 to float32; never a float to an integer).
            batch_size: samples at once; None: the file's own, or 32 where that is free. A file with a fixed
                batch always gets full batches: the last one is filled up and the surplus dropped.

        Returns:
            An array, or for several outputs a dict {output name: array}, the batches concatenated.

        Raises:
            ValueError: `x` doesn't fit the inputs.
        """
        named = fit_inputs(x, self.input_specs)
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"Expected batch_size to be None or at least 1. Received: batch_size={batch_size}.")
        check_rows(named, {name: spec.shape for name, spec in self.input_specs.items()}, self.path.name)
        size = self.batch_size or batch_size or DEFAULT_BATCH_SIZE
        samples = count_samples(named)
        if is_uneven(named.values()):
            size = samples
        pieces = []
        for batch in cut(named, size):
            here = count_samples(batch)
            short = self.batch_size and here < size
            outputs = self.run({name: fill(array, size) for name, array in batch.items()} if short else batch)
            if samples > size or here < size:
                outputs = {name: self._rows(name, value, size, here) for name, value in outputs.items()}
            pieces.append(outputs)
        joined = {
            name: pieces[0][name] if len(pieces) == 1 else np.concatenate([piece[name] for piece in pieces])
            for name in self.output_names
        }
        return next(iter(joined.values())) if len(joined) == 1 else joined

    def _rows(self, name: str, value: np.ndarray, size: int, wanted: int) -> np.ndarray:
        full = size if self.batch_size else wanted
        if not value.ndim or value.shape[0] != full:
            raise ValueError(
                f"Expected output {name!r} to have one row per sample, {full}. Received: shape "
                f"{value.shape}. Its batches can't be joined: give predict() as many samples "
                "as the file takes at once."
            )
        return value[:wanted]


def open_runner(path: str | os.PathLike[str], threads: int = 1) -> Runner:
    """Load a `.tflite` or `.onnx` file in the runtime that will run it.

    Args:
        path: the file, written by anyone.
        threads: how many threads one inference may use.

    Returns:
        A `Runner`: `.run({name: array})` once, `.predict(x)` in batches.

    Raises:
        ValueError: the suffix is unknown, or the runtime refuses the file.
        FileNotFoundError: there is no such file, or the one beside it that holds its weights.

    Example:
        runner = open_runner("model.tflite", threads=2)
        logits = runner.predict(images)
    """
    kind = format_of(path)
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"Expected a model file. Received: {os.fspath(path)!r}, which isn't there.")
    threads = check_count("threads", threads, most=MOST_THREADS)
    try:
        return TFLiteRunner(file, threads) if kind == "tflite" else ONNXRunner(file, threads)
    except ImportError:
        raise
    except Exception as error:  # each runtime raises its own, ONNX Runtime about a dozen
        if out_of_memory(error):
            raise memory_error(f"load {os.fspath(path)!r}", error) from error
        _check_weights(kind, file)
        raise RuntimeRefusal(
            f"Expected a {kind} file that its runtime can load. Received: {os.fspath(path)!r}, which it "
            f"refused: {told(error)}",
            error,
        ) from error


def _check_weights(kind: str, file: pathlib.Path) -> None:
    """Say so if a file was refused because the file with its weights isn't beside it."""
    if kind != "onnx":
        return
    import onnx

    try:
        proto = onnx.load(file, load_external_data=False)
    except Exception:  # no ONNX file: what the runtime said is to be told
        return
    check_outside(proto, file)


class TFLiteRunner(Runner):
    """A `.tflite` file in the ai_edge_litert interpreter, addressed through its signature."""

    format = "tflite"

    def __init__(self, path: pathlib.Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with quiet():
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            if all((detail["shape_signature"] >= 0).all() for detail in self._interpreter.get_input_details()):
                # Not with free sizes: they count as 1 until data comes, too small for many a convolution. And
                # now, for it is refused once a signature runner holds the interpreter.
                self._interpreter.allocate_tensors()
            signatures = self._interpreter.get_signature_list()
            key = "serving_default" if "serving_default" in signatures else next(iter(signatures), None)
            # Files of old, and those that other tools wrote, may have no signature: then by tensor name.
            self._signature = self._interpreter.get_signature_runner(key) if key else None
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        if self._signature:
            # A signature sorts its names; the graph has them in the order of the traced function's arguments.
            inputs = _in_graph_order(self._signature.get_input_details(), inputs)
            outputs = _in_graph_order(self._signature.get_output_details(), outputs)
        else:
            inputs = {detail["name"]: detail for detail in inputs}
            outputs = {detail["name"]: detail for detail in outputs}
        self.details = inputs, outputs
        super().__init__(
            path,
            threads,
            {name: _tflite_info(detail) for name, detail in inputs.items()},
            {name: _tflite_info(detail) for name, detail in outputs.items()},
        )

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the file once (see `Runner.run`)."""
        with _refusals(self.path, inputs):
            return self._run(inputs)

    def _run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._signature:
            results = self._signature(**inputs)
            return {name: results[name] for name in self.output_specs}
        shapes = {detail["index"]: tuple(detail["shape"]) for detail in self._interpreter.get_input_details()}
        for name, detail in self.details[0].items():
            if shapes[detail["index"]] != inputs[name].shape:
                self._interpreter.resize_tensor_input(detail["index"], inputs[name].shape)
        self._interpreter.allocate_tensors()
        for name, detail in self.details[0].items():
            self._interpreter.set_tensor(detail["index"], inputs[name])
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(detail["index"]) for name, detail in self.details[1].items()}


class ONNXRunner(Runner):
    """A `.onnx` file in an ONNX Runtime session on the CPU."""

    format = "onnx"

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
        with _refusals(self.path, inputs):
            return dict(zip(self.output_names, self.session.run(self.output_names, dict(inputs)), strict=True))


def fill(array: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last sample until there are `size`."""
    if not array.ndim:
        return array
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def _in_graph_order(
    by_name: Mapping[str, Mapping[str, Any]], in_order: Sequence[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    places = {detail["index"]: place for place, detail in enumerate(in_order)}
    return dict(sorted(by_name.items(), key=lambda item: places.get(item[1]["index"], len(places))))


def _tflite_info(detail: Mapping[str, Any]) -> TensorInfo:
    shape = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    return TensorInfo(tuple(None if size < 0 else int(size) for size in shape), np.dtype(detail["dtype"]).name)


_ONNX_DTYPES = {"float": "float32", "double": "float64"}


def _onnx_info(value: Any) -> TensorInfo:
    dtype = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape or ())
    return TensorInfo(shape, _ONNX_DTYPES.get(dtype, dtype))
