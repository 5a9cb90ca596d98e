"""Opening a `.tflite` or `.onnx` file in the runtime that will run it."""

import os
import pathlib

from tfcompress.core.arguments import check_choice, check_count
from tfcompress.core.error_messages import told
from tfcompress.core.limits import MOST_THREADS
from tfcompress.core.out_of_memory import memory_error, out_of_memory
from tfcompress.runtime.external_data import check_outside
from tfcompress.runtime.litert_runner import TFLiteRunner
from tfcompress.runtime.onnx_runner import ONNXRunner
from tfcompress.runtime.runner import Runner, RuntimeRefusal, format_of
from tfcompress.runtime.tflm_runner import DECODE, TFLMRunner
from tfcompress.targets.target import RUNTIMES as FORMAT_OF

RUNTIMES: dict[str, type[TFLiteRunner | ONNXRunner | TFLMRunner]]
RUNTIMES = {"litert": TFLiteRunner, "onnxruntime": ONNXRunner, "tflm": TFLMRunner}
"""{a runtime's name: what runs a file in it}."""

USUAL = {"tflite": "litert", "onnx": "onnxruntime"}
"""{a format: the runtime that runs its files where none is named}."""


def check_runtime(runtime: str | None) -> None:
    """Refuse what is the name of no runtime."""
    check_choice("runtime", runtime, (None, *RUNTIMES))


def open_runner(path: str | os.PathLike[str], threads: int = 1, runtime: str | None = None) -> Runner:
    """Load a `.tflite` or `.onnx` file in the runtime that will run it.

    Args:
        path: the file, written by anyone.
        threads: how many threads one inference may use; TFLite Micro has one.
        runtime: "litert", "onnxruntime", or "tflm": TFLite Micro, of microcontrollers; None: LiteRT for `.tflite`, ONNX
            Runtime for `.onnx`; TFLite Micro for a `.tflite` file whose weights it alone looks up in tables.

    Returns:
        A `Runner`: `.run({name: array})` once, `.predict(x)` in batches.

    Raises:
        ValueError: the suffix is unknown, the runtime has another format, or it refuses the file.
        FileNotFoundError: there is no such file, or the one beside it that holds its weights.
        ImportError: the runtime isn't installed.

    Example:
        runner = open_runner("model.tflite", threads=2)
        logits = runner.predict(images)
    """
    check_runtime(runtime)
    kind = format_of(path)
    named, runtime = runtime, runtime or USUAL[kind]
    if FORMAT_OF[runtime] != kind:
        raise ValueError(
            f"Expected a .{FORMAT_OF[runtime]} file for runtime {runtime!r}. Received: {os.fspath(path)!r}. Export the "
            f"model as .{FORMAT_OF[runtime]}, or leave the runtime out."
        )
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"Expected a model file. Received: {os.fspath(path)!r}, which isn't there.")
    threads = check_count("threads", threads, most=MOST_THREADS)
    try:
        return RUNTIMES[runtime](file, threads)
    except (ImportError, RuntimeRefusal):
        raise
    except Exception as error:  # each runtime raises its own, ONNX Runtime about a dozen
        if out_of_memory(error):
            raise memory_error(f"load {os.fspath(path)!r}", error) from error
        if named is None and kind == "tflite" and DECODE in str(error):
            return open_runner(path, threads, "tflm")
        _check_weights(kind, file)
        called = "its runtime" if runtime == USUAL[kind] else RUNTIMES[runtime].runtime[1]
        raise RuntimeRefusal(
            f"Expected a {kind} file that {called} can load. Received: {os.fspath(path)!r}, which it "
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
