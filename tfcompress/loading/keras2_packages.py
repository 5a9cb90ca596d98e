"""tf_keras and tensorflow_model_optimization, imported and run without what they do to the process around them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from tfcompress.core.locking import no_warnings


@contextlib.contextmanager
def keras2_at_work() -> Iterator[None]:
    """Keep tf_keras' warnings about itself to itself, and the environment as it was."""
    with no_warnings():
        before = os.environ.get("TF_USE_LEGACY_KERAS")
        try:
            yield
        finally:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
            if before is not None:
                os.environ["TF_USE_LEGACY_KERAS"] = before


def original_tfmot() -> Any:
    """Return tensorflow_model_optimization, which works on the models of tf_keras."""
    with keras2_at_work():
        import tensorflow_model_optimization
    return tensorflow_model_optimization


def is_of_keras2(x: Any) -> bool:
    """Return whether something is a layer, a model or another object of tf_keras.

    >>> import keras
    >>> is_of_keras2(keras.layers.Dense(1))
    False
    """
    return any(cls.__module__.partition(".")[0] == "tf_keras" for cls in type(x).__mro__)
