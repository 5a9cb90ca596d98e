"""What the machine computes with, and which 16-bit numbers it is fast with."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from tfcompress.core.error_messages import told

CPUINFO = "/proc/cpuinfo"
BFLOAT16_FLAGS = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX"}
TENSOR_CORES = (7, 0)
"""The compute capability from which NVIDIA's GPUs multiply float16 matrices in tensor cores."""

GPU_BFLOAT16 = (8, 0)


@dataclasses.dataclass(frozen=True)
class Device:
    """What Keras computes on.

    Attributes:
        kind: "gpu", "tpu", "cpu", or "" where the backend isn't known here.
        capability: A GPU's compute capability; `None`: not known, as of other makers' GPUs.
        instructions: A CPU's instructions for bfloat16, by their usual names; `None`: not known, as beyond Linux.
    """

    kind: str
    capability: tuple[int, int] | None = None
    instructions: tuple[str, ...] | None = None

    def __str__(self) -> str:
        if self.kind == "gpu":
            known = self.capability is not None
            return f"a GPU of compute capability {self._version()}" if known else "a GPU of unknown compute capability"
        if self.kind == "cpu":
            if self.instructions is None:
                return "a CPU whose instructions aren't known"
            return f"a CPU with {' and '.join(self.instructions) or 'neither AVX512-BF16 nor AMX'}"
        return {"tpu": "a TPU"}.get(self.kind, "an unknown device")

    def _version(self) -> str:
        return ".".join(map(str, self.capability or ()))

    def best(self) -> str:
        """Return the policy that is fastest here: that of "auto".

        >>> Device("gpu", (8, 6)).best(), Device("tpu").best(), Device("cpu", None, ()).best()
        ('mixed_float16', 'mixed_bfloat16', 'float32')
        """
        if self.kind == "gpu" and self.capability is not None and self.capability >= TENSOR_CORES:
            return "mixed_float16"
        if self.kind == "tpu" or (self.kind == "cpu" and self.instructions):
            return "mixed_bfloat16"
        return "float32"

    def drawback(self, policy: str) -> str:
        """Return why a policy is slow here, or "".

        >>> Device("cpu", None, ("AVX512-BF16",)).drawback("mixed_bfloat16")
        ''
        >>> Device("gpu", (6, 1)).drawback("mixed_float16")
        'tensor cores for float16 come with compute capability 7.0'
        """
        if self.kind == "gpu" and self.capability is not None:
            wanted = {"mixed_float16": TENSOR_CORES, "mixed_bfloat16": GPU_BFLOAT16}.get(policy)
            if wanted and self.capability < wanted:
                name = policy.removeprefix("mixed_")
                return f"tensor cores for {name} come with compute capability {wanted[0]}.{wanted[1]}"
        if self.kind == "cpu" and policy == "mixed_float16":
            return "float16 is emulated there, convolutions at a fraction of the speed"
        if self.kind == "cpu" and policy == "mixed_bfloat16" and self.instructions == ():
            return "bfloat16 is emulated there"
        return ""


def device() -> Device:
    """Return what Keras computes on: the first GPU or TPU, else the CPU."""
    backend = keras.backend.backend()
    found = {"tensorflow": _of_tensorflow, "jax": _of_jax}.get(backend, lambda: Device(""))()
    return dataclasses.replace(found, instructions=cpu_instructions()) if found.kind == "cpu" else found


def cpu_instructions(path: str = CPUINFO) -> tuple[str, ...] | None:
    """Return the CPU's instructions for bfloat16, as Linux says; `None` where there is no such file.

    Args:
        path: Of the file with a line "flags : ..." (x86).
    """
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    line = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    if line is None:
        return None
    flags = set(line.group(1).split())
    return tuple(name for flag, name in BFLOAT16_FLAGS.items() if flag in flags)


def _of_tensorflow() -> Device:
    import tensorflow as tf

    if tf.config.list_logical_devices("TPU"):
        return Device("tpu")
    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        return Device("cpu")
    found = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability")
    return Device("gpu", None if found is None else (int(found[0]), int(found[1])))


def _of_jax() -> Device:
    import jax

    first = jax.devices()[0]
    if first.platform in ("gpu", "cuda", "rocm"):
        return Device("gpu", _version(getattr(first, "compute_capability", None)))
    return Device(first.platform if first.platform in ("cpu", "tpu") else "")


def _version(text: Any) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d+)\.(\d+)", str(text))
    return None if found is None else (int(found.group(1)), int(found.group(2)))


def compiled(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a call that JAX compiles, as its `fit` does: not all that runs operation by operation compiles, too."""
    if keras.backend.backend() != "jax":
        return call
    import jax

    def run(*args: Any, **kwargs: Any) -> Any:
        flat = tree.flatten((args, kwargs))
        places = [place for place, x in enumerate(flat) if ops.is_tensor(x)]

        def pure(tensors: list[Any]) -> Any:
            filled = list(flat)
            for place, tensor in zip(places, tensors, strict=True):
                filled[place] = tensor
            given, named = tree.pack_sequence_as((args, kwargs), filled)
            with keras.StatelessScope():
                return call(*given, **named)

        return jax.jit(pure)([flat[place] for place in places])

    return run


def why_it_fails(dtype: str) -> str:
    """Return why the device can't multiply matrices or convolve in "float16" or "bfloat16", or "" if it can."""
    try:
        x = ops.ones((1, 4, 4, 2), dtype)
        ops.convert_to_numpy(ops.cast(ops.conv(x, ops.ones((3, 3, 2, 2), dtype)), "float32"))
        matrix = ops.ones((4, 4), dtype)
        ops.convert_to_numpy(ops.cast(ops.matmul(matrix, matrix), "float32"))
    except Exception as error:  # each backend has its own
        return told(error)
    return ""
