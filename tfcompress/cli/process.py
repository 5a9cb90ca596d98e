"""What holds for a process of the command: signals end it at once, and imports print nothing.

To be called before TensorFlow is imported, which takes seconds, and makes threads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def watch_signals() -> None:
    """Let SIGINT and SIGTERM end this process within two seconds, whatever it is doing: a thread waits for them.

    An exception in the main thread would wait for the end of the C++ that is running, and a callback of JAX may
    swallow it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return
    signals = {signal.SIGINT, signal.SIGTERM}
    messages = os.dup(2)  # while TensorFlow is imported, 2 is another
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # all threads that are made from here on inherit it
    threading.Thread(target=_wait, args=(signals, messages), name="signals", daemon=True).start()


def _wait(signals: set[signal.Signals], messages: int) -> None:
    """End the process when one of the signals comes, with 128 and its number as shells say it; leave no drafts."""
    number = signal.sigwait(signals)
    files = sys.modules.get("tfcompress.core.temporary_folders")
    if files is not None and hasattr(files, "abandon"):
        files.abandon()
    cursor = "\x1b[?25h\r" if os.isatty(messages) else ""  # a progress bar hides it
    with contextlib.suppress(OSError):
        os.write(messages, f"{cursor}error: {WORDS[signal.Signals(number)]}\n".encode())
    os._exit(128 + number)


def print_warnings_as_text() -> None:
    """Let what Python warns of be printed as errors are, without the place in the code that it comes from."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"


def import_everything(logs: bool) -> None:
    """Import the package with Keras and TensorFlow.

    Args:
        logs: Whether what these say meanwhile, and later, is let through.
    """
    if logs:
        import tfcompress.public

        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # That level alone doesn't stop TensorFlow's libraries from printing log lines: they begin before the log is set up.
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tfcompress.public  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
    # Each of several models is traced once; TensorFlow takes that for one that is traced again and again, and warns.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*__array__.*copy keyword.*", category=DeprecationWarning)
