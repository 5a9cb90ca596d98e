"""What is said about a file that can't be loaded."""

from __future__ import annotations

import pathlib

from tfcompress.core.error_messages import told
from tfcompress.core.out_of_memory import memory_error, out_of_memory
from tfcompress.loading.other_files import contents


def short(error: BaseException) -> str:
    """Return the class of an exception and the line that says what went wrong, without Keras' configurations.

    >>> short(ValueError("A layer of 3,000 characters. Exception encountered: no such argument"))
    'ValueError: no such argument'
    """
    return f"{type(error).__name__}: {told(error)}"


def broken(file: pathlib.Path, error: BaseException) -> Exception:
    """Return the exception for a file that isn't what its suffix says, or that memory doesn't hold."""
    if out_of_memory(error):
        return memory_error(f"load {str(file)!r}", error)
    return ValueError(
        f"Expected the file of a Keras model. Received: {str(file)!r}, which is broken or something else "
        f"({short(error)}){contents(file)}. Copy or save it again."
    )


def unreadable(file: pathlib.Path, error: BaseException) -> Exception:
    """Return the exception for a file whose layers Keras 3 doesn't know, or that memory doesn't hold."""
    if out_of_memory(error):
        return memory_error(f"load {str(file)!r}", error)
    return ValueError(
        f"Expected layers that Keras 3 knows. Received: {str(file)!r}, of which it says: {error}. Import the "
        "module that registers your own layers (keras.saving.register_keras_serializable) before loading; a "
        "layer that Keras 3 has no more must be replaced where the model is made."
    )
