"""What converters and runtimes log is kept off the user's terminal."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

from tfcompress.core.locking import exclusive


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what is written to standard error, by C++ code too, for the time of the block.

    TensorFlow's converter and XNNPACK log from C++ through absl, which no Python logger sees; so the file
    descriptor itself is redirected. An exception passes as usual, its message is not touched.
    """
    with exclusive():
        try:
            sys.stderr.flush()
            saved = os.dup(2)
        except (
            OSError,
            ValueError,
            AttributeError,
        ):  # no usable stderr (a service, a notebook): nothing to hold back
            yield
            return
        try:
            with tempfile.TemporaryFile() as sink:
                os.dup2(sink.fileno(), 2)
                try:
                    yield
                finally:
                    with contextlib.suppress(OSError, ValueError):
                        sys.stderr.flush()
                    os.dup2(saved, 2)
        finally:
            os.close(saved)


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
