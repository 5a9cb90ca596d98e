"""Prune, quantize and ship Keras 3 models as TFLite and ONNX, with proof that the file is the model."""

import importlib
from typing import TYPE_CHECKING, Any

from tfcompress.core.command_line import is_command
from tfcompress.core.version import VERSION

if TYPE_CHECKING or not is_command():
    # At once, as Keras loads only what has registered its classes. The command, whose help answers before TensorFlow
    # could be imported, does so before it does anything.
    from tfcompress.public import *  # noqa: F403
    from tfcompress.public import __all__  # noqa: F401

__version__ = VERSION


def __getattr__(name: str) -> Any:
    if "__all__" not in globals() and not name.startswith("__"):
        public = importlib.import_module("tfcompress.public")
        globals().update({one: getattr(public, one) for one in ("__all__", *public.__all__)})
        if name in globals():
            return globals()[name]
    from tfcompress.core.old_calls import old_attribute
    from tfcompress.pruning.schedules import OLD_NAMES

    return old_attribute(__name__, {old: (kind.__name__, kind) for old, kind in OLD_NAMES.items()}, name)
