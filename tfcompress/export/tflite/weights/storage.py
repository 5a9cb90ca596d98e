"""In how many bits a file stores a weight: as few as it needs, where the runtime has a kernel that is fast enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tfcompress.export.tflite.weights.packed_integers import BITS
from tfcompress.quantization.encoding import Affine

SPEED, SIZE = "speed", "size"
PREFER = (SPEED, SIZE)
"""What `tfc.export(..., prefer=)` takes."""

EIGHT = "8 bits"
"""In place of these: the target reads no smaller type."""

DYNAMIC, UNPACKED = "FLOAT32", "DEQUANTIZE"
"""In place of the type of activations: they are rounded at run time; they are floats, and so are the weights that the
kernel gets, behind a DEQUANTIZE."""

MOST = 1.5
"""Times as long as with 8 bits that a kernel may take where speed is preferred."""


@dataclasses.dataclass(frozen=True)
class PackedKernel:
    """A kernel of LiteRT that reads weights of 4 or 2 bits.

    Attributes:
        version: Of the operator's code; of weights that are unpacked, that of the DEQUANTIZE.
        time: As a multiple of that with 8 bits.
        time_of_several: The same where it multiplies several vectors; 0: no other.
        multiple: What the number of summed inputs must be a multiple of.
        per_channel: Whether it wants a scale for each output channel.
    """

    version: int
    time: float
    time_of_several: float = 0
    multiple: int = 1
    per_channel: bool = False


_DENSE_2 = PackedKernel(14, 1, 2, multiple=4, per_channel=True)

KERNELS: dict[tuple[str, str], dict[str, PackedKernel]] = {
    ("FULLY_CONNECTED", "INT8"): {"INT4": PackedKernel(10, 0.6, 1.1, multiple=2), "INT2": _DENSE_2},
    ("FULLY_CONNECTED", DYNAMIC): {"INT4": PackedKernel(12, 0.6, 1.1, multiple=2), "INT2": _DENSE_2},
    ("FULLY_CONNECTED", "INT16"): {"INT4": PackedKernel(13, 2, 1.1), "INT2": PackedKernel(14, 2, 1.1)},
    ("FULLY_CONNECTED", UNPACKED): {"INT4": PackedKernel(6, 1.3, 6), "INT2": PackedKernel(7, 1.3, 6)},
    ("CONV_2D", "INT8"): {"INT4": PackedKernel(7, 4)},
    ("CONV_2D", DYNAMIC): {"INT4": PackedKernel(7, 4)},
    ("CONV_2D", UNPACKED): {"INT4": PackedKernel(6, 6), "INT2": PackedKernel(7, 6)},
    ("DEPTHWISE_CONV_2D", "INT8"): {"INT4": PackedKernel(7, 8)},
    ("DEPTHWISE_CONV_2D", UNPACKED): {"INT4": PackedKernel(6, 4), "INT2": PackedKernel(7, 4)},
}
"""By operator and the type of its activations: LiteRT 2.3, one thread, x86 with AVX512-VNNI (`python -m
benchmarks.compression --part=tflite_kernels`). What XNNPACK has no kernel for is slow: LiteRT's own unpack the weights
each time."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """How a file stores a weight.

    Attributes:
        type: As the schema calls it, "INT4".
        why: Why in no smaller type; empty: there is none that holds the integers.
        version: Of the operator's code that reads it; 0: any.
    """

    type: str
    why: str = ""
    version: int = 0

    @property
    def bits(self) -> int:
        """Of the type."""
        return BITS[self.type]


def choose(operator: str, activations: str, weights: Affine, prefer: str, *, several: bool = False) -> Storage:
    """Choose how a file stores a weight.

    Args:
        operator: That reads it.
        activations: Their type, "INT8"; or `DYNAMIC` or `UNPACKED`.
        weights: Its integers; of a dense layer (outputs, inputs).
        prefer: "speed": in no type whose kernel takes more than `MOST` times as long as that of 8 bits; "size": in the
            smallest that there is a kernel for; `EIGHT`: in none below 8 bits.
        several: Whether a dense kernel multiplies several vectors.

    Example:

    >>> import numpy as np
    >>> kernel = Affine(np.ones((3, 4), "int8"), np.ones((3, 1), "float32"), bits=4)
    >>> choose("FULLY_CONNECTED", "INT8", kernel, "speed").type
    'INT4'
    >>> print(choose("CONV_2D", "INT8", kernel, "speed").why)
    CONV_2D in INT4 takes 4 times as long; prefer='size' stores it so
    """
    if prefer == EIGHT:
        return Storage("INT8", "the target reads weights of 8 bits" if weights.bits < 8 else "")
    why, inputs = "", weights.shape[-1]
    for kind in _narrow(weights.bits):
        kernel = KERNELS.get((operator, activations), {}).get(kind)
        if kernel is None:
            why = why or f"{operator} has no kernel of {kind}"
            continue
        time = kernel.time_of_several if several and kernel.time_of_several else kernel.time
        if inputs % kernel.multiple:
            wanted = "an even number" if kernel.multiple == 2 else f"a multiple of {kernel.multiple}"
            why = f"{operator} in {kind} takes {wanted} of inputs, and there are {inputs}"
        elif kernel.per_channel and weights.scale.size == 1:
            why = f"{operator} in {kind} takes a scale for each channel"
        elif time > MOST and prefer != SIZE:
            why = f"{operator} in {kind} takes {time:g} times as long; prefer='size' stores it so"
        else:
            return Storage(kind, why, kernel.version)
    return Storage("INT8", why)


def _narrow(bits: int) -> Iterator[str]:
    """Yield the types below 8 bits that hold integers of so many bits, the smallest first."""
    yield from (kind for kind in sorted(BITS, key=BITS.__getitem__) if bits <= BITS[kind] < 8)
