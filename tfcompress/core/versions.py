"""The versions of what computes."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform

import keras

from tfcompress.core.version import VERSION


def versions() -> dict[str, str]:
    """Return the versions of what computes: this package, Keras with its backend, Python, the runtimes."""
    backend = keras.backend.backend()
    found = {"tfcompress": VERSION, "python": platform.python_version(), "keras": keras.__version__}
    for name in dict.fromkeys((backend, "tensorflow", "ai-edge-litert", "onnx", "onnxruntime", "numpy")):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {**found, "backend": backend}
