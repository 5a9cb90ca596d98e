"""Imported first by every program here: what is to hold before TensorFlow is imported, which takes seconds.

SIGINT and SIGTERM end the program at once, whatever it is doing: a thread of its own waits for them. An exception in
the main thread would wait for the end of the C++ that is running, and a callback of JAX may swallow it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
MESSAGES = os.dup(2)  # while TensorFlow is imported, 2 is another


def _wait(signals: set[signal.Signals]) -> None:
    """End the process when one of the signals comes, with 128 and its number as shells say it; leave no drafts."""
    number = signal.sigwait(signals)
    files = sys.modules.get("tfcompress.core.temporary_folders")
    if files is not None and hasattr(files, "abandon"):
        files.abandon()
    cursor = "\x1b[?25h\r" if os.isatty(MESSAGES) else ""  # a progress bar hides it
    with contextlib.suppress(OSError):
        os.write(MESSAGES, f"{cursor}error: {WORDS[signal.Signals(number)]}\n".encode())
    os._exit(128 + number)


def watch() -> None:
    """Let SIGINT and SIGTERM end this process within two seconds."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # all threads that are made from here on inherit it
    threading.Thread(target=_wait, args=(signals,), name="signals", daemon=True).start()


watch()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# That level alone doesn't stop TensorFlow's libraries from printing log lines: they begin before the log is set up.
sys.stderr.flush()
_stderr = os.dup(2)
_nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 2)
try:
    import tfcompress  # noqa: F401
finally:
    os.dup2(_stderr, 2)
    os.close(_stderr)
    os.close(_nowhere)
