"""tfmot itself, for what is of tf_keras."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import keras

from tfcompress.loading.keras2_packages import original_tfmot


@contextlib.contextmanager
def scope_with_original(kind: str, name: str, *custom_objects: dict[str, Any]) -> Iterator[None]:
    """Let Keras 3 know objects by their names; and tf_keras, if it is there at all, these and those of tfmot's scope.

    Args:
        kind: Of the scope, "sparsity" or "quantization".
        name: Of tfmot's function that makes it.
        *custom_objects: {name: class or function}.
    """
    with contextlib.ExitStack() as scopes:
        known = {key: value for objects in custom_objects for key, value in objects.items()}
        scopes.enter_context(keras.saving.custom_object_scope(known))
        if "tf_keras" in sys.modules:
            scopes.enter_context(getattr(getattr(original_tfmot(), kind).keras, name)(*custom_objects))
        yield
