"""What converters and runtimes log is kept off the user's terminal."""

import contextlib
import ctypes
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

from tfcompress.core.locking import exclusive


@contextlib.contextmanager
def quiet(*, output: bool = False) -> Iterator[None]:
    """Hold back what is written to standard error, by C++ code too, for the time of the block.

    TensorFlow's converter and XNNPACK log from C++ through absl, which no Python logger sees; so the file
    descriptor itself is redirected. An exception passes as usual, its message is not touched.

    Args:
        output: Whether to hold back standard output in its place.
    """
    stream, descriptor = (sys.stdout, 1) if output else (sys.stderr, 2)
    with exclusive():
        try:
            stream.flush()
            _flush_c()
            saved = os.dup(descriptor)
        except (
            OSError,
            ValueError,
            AttributeError,
        ):  # no usable stream (a service, a notebook): nothing to hold back
            yield
            return
        try:
            with tempfile.TemporaryFile() as sink:
                os.dup2(sink.fileno(), descriptor)
                try:
                    yield
                finally:
                    with contextlib.suppress(OSError, ValueError):
                        stream.flush()
                    _flush_c()
                    os.dup2(saved, descriptor)
        finally:
            os.close(saved)


def _flush_c() -> None:
    """Write what C code has printed and its library still holds: it does so in a pipe or a file."""
    with contextlib.suppress(OSError, TypeError, AttributeError):  # no such library: nothing is held
        ctypes.CDLL(None).fflush(None)


@contextlib.contextmanager
def without_retracing_warnings() -> Iterator[None]:
    """Hold back TensorFlow's advice on functions that are traced often, for the time of the block.

    It counts by code, not by model: the predictions of a few models are "5 out of the last 5 calls" for it.
    """
    logger = logging.getLogger("tensorflow")

    def wanted(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)
