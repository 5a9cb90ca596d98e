"""Opening a `.tflite` or `.onnx` file in the runtime that will run it."""

import os
import pathlib

from tfcompress.core.arguments import check_count
from tfcompress.core.error_messages import told
from tfcompress.core.limits import MOST_THREADS
from tfcompress.core.out_of_memory import memory_error, out_of_memory
from tfcompress.runtime.external_data import check_outside
from tfcompress.runtime.litert_runner import TFLiteRunner
from tfcompress.runtime.onnx_runner import ONNXRunner
from tfcompress.runtime.runner import Runner, RuntimeRefusal, format_of


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
