"""The process in which TFLite Micro runs: what its C++ code does when it fails can't end the user's own."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfcompress.core.child_process import child_environment
from tfcompress.core.packages import TFLITE_MICRO
from tfcompress.runtime.tflm_worker import receive, send

WORKER = pathlib.Path(__file__).with_name("tflm_worker.py")
SECONDS = 10
"""That a process is given to end, once it reads and writes no more or was killed."""


class TFLMError(RuntimeError):
    """TFLite Micro refused something, or its process ended; the message is what it printed."""


class TFLMProcess:
    """A process with one file in it; it ends with this object, and with this process.

    Raises:
        ImportError: tflite-micro isn't installed.
    """

    def __init__(self) -> None:
        TFLITE_MICRO.check()
        self._lock = threading.Lock()
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  # closed with this object
        command = [sys.executable, str(WORKER)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            env=child_environment(OPENBLAS_NUM_THREADS="1"),
        )
        self._end = weakref.finalize(self, _end, self._process, self._printed)

    def ask(self, do: str, arrays: Sequence[np.ndarray] = (), **what: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Let the process do something; return its answer.

        Raises:
            TFLMError: it couldn't, or it has ended, as it does where this is interrupted.
        """
        message, values, _ = self._asked({"do": do, **what}, arrays)
        return message, values

    def printed(self, do: str) -> str:
        """Let the process do something; return what was printed."""
        return self._asked({"do": do}, ())[2]

    def close(self) -> None:
        """End the process."""
        self._end()

    def _asked(
        self, request: dict[str, Any], arrays: Sequence[np.ndarray]
    ) -> tuple[dict[str, Any], list[np.ndarray], str]:
        with self._lock:
            if not self._end.alive:
                raise TFLMError("its process has ended")
            before = os.fstat(self._printed.fileno()).st_size
            try:
                assert self._process.stdin is not None and self._process.stdout is not None
                send(self._process.stdin, request, list(arrays))
                answer = receive(self._process.stdout)
            except ConnectionError:  # it reads or writes no more
                answer = None
            except BaseException:  # its answer would be taken for that to the next request
                self.close()
                raise
            ended = "" if answer is not None else self._how_it_ended()
            size = os.fstat(self._printed.fileno()).st_size
            text = os.pread(self._printed.fileno(), size - before, before).decode(errors="replace")
            if answer is None:
                self.close()
                raise TFLMError("; ".join([*lines(text), ended]))
        message, values = answer
        if "error" in message:
            raise TFLMError("; ".join(lines(text)) or message["error"])
        return message, values, text

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            return "its process answers no more"
        return f"its process ended by {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"


def lines(text: str) -> list[str]:
    """Return the lines of what was printed, each once, without empty ones.

    >>> lines("a\\n\\na \\nb")
    ['a', 'b']
    """
    return list(dict.fromkeys(filter(None, (line.strip() for line in text.splitlines()))))


def _end(process: subprocess.Popen[bytes], printed: Any) -> None:
    process.kill()  # first: what it hasn't read is then of no use, and isn't waited for
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS)
    printed.close()
