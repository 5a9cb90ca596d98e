"""Whether two files compute the same, bit by bit, in one runtime."""

from __future__ import annotations

import pathlib
import tempfile

import numpy as np

from tfcompress.parity.tolerance import ParityError
from tfcompress.runtime.opening import open_runner

SAMPLES = 8
"""Runs of each."""


def check_same(path: pathlib.Path, other: bytes, runtime: str) -> None:
    """Raise ParityError unless a file and another, in bytes, give the same outputs for seeded random inputs.

    Args:
        path: of the file; its sizes are fixed.
        other: the content of the other, of the same inputs.
        runtime: that runs both.
    """
    first = open_runner(path, runtime=runtime)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="tfcompress-") as folder:
        beside = pathlib.Path(folder, path.name)
        beside.write_bytes(other)
        second = open_runner(beside, runtime=runtime)
        for _ in range(SAMPLES):
            given = {name: _values(random, spec.shape, spec.dtype) for name, spec in first.input_specs.items()}
            outputs = first.run(given), second.run(given)
            for name, expected in outputs[0].items():
                if not np.array_equal(expected, outputs[1][name], equal_nan=expected.dtype.kind == "f"):
                    raise ParityError(
                        f"Expected the same outputs with weights='coded' as without. Received: others of {name!r}, in "
                        f"{first.runtime_version}. Nothing was written. Export with weights='plain'."
                    )


def _values(random: np.random.Generator, shape: tuple[int | None, ...], dtype: str) -> np.ndarray:
    sizes = [size or 1 for size in shape]
    if np.dtype(dtype).kind in "iu" and np.dtype(dtype).itemsize == 1:
        limits = np.iinfo(dtype)
        return random.integers(limits.min, limits.max + 1, sizes).astype(dtype)
    return (random.normal(size=sizes) if np.dtype(dtype).kind == "f" else np.zeros(sizes)).astype(dtype)
