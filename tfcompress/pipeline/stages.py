"""What surrounds each part of a job, such as a progress bar."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras

Stage = Callable[..., contextlib.AbstractContextManager[Sequence[keras.callbacks.Callback]]]
"""`with stage(text, epochs) as callbacks:` surrounds a part; of a training the callbacks are for `fit`."""


@contextlib.contextmanager
def silent(text: str, epochs: int = 0) -> Any:
    """Show nothing: a stage without a progress bar."""
    yield ()
