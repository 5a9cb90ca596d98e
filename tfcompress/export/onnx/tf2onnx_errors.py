"""What tf2onnx only logs, raised as an error that says what to do."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator

from tfcompress.core.error_messages import told
from tfcompress.core.out_of_memory import memory_error, out_of_memory
from tfcompress.tracing.trace import Trace
from tfcompress.tracing.unsupported_operators import blamed, named


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []
        self.reasons: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            self.reasons.append(told(record.exc_info[1]))


@contextlib.contextmanager
def errors_raised(trace: Trace) -> Iterator[None]:
    """Raise what tf2onnx only logs: it returns a wrong graph after an error, as if nothing had been."""
    logger = logging.getLogger("tf2onnx")
    collector = _Collector()
    before = logger.propagate, logger.level, logger.disabled
    logger.addHandler(collector)
    logger.propagate = False
    logger.disabled = False
    logger.setLevel(logging.ERROR)
    cause: Exception | None = None
    try:
        yield
    except Exception as error:
        cause = error
    finally:
        logger.removeHandler(collector)
        logger.propagate, level, logger.disabled = before
        logger.setLevel(level)
    if out_of_memory(cause) and cause is not None:
        raise memory_error(f"convert model {trace.name!r} to ONNX", cause) from cause
    if collector.messages or cause:
        said = "; ".join(dict.fromkeys(collector.messages)) or str(cause)
        lacking = re.findall(r"\[\S+: (\w+)\] is not supported", said)
        where = named(trace, lacking) if lacking else blamed(trace, said)
        reasons = dict.fromkeys([*map(told, collector.messages), *collector.reasons])
        raise ValueError(
            f"Expected a model that tf2onnx can convert. Received: {where}, on which it failed: "
            f"{'; '.join(reasons) or told(cause or said)}. "
            "Write that part with other operations, move it out of the model, or export to .tflite."
        ) from cause
