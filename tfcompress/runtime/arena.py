"""The arena of TFLite Micro: the one block of memory in which a file is run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

_PART = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
_KIND = re.compile(r"'([^']+)' used (\d+) bytes")


@dataclasses.dataclass(frozen=True)
class Arena:
    """What a file needs of memory to work in, in bytes.

    It is exact on a machine of 64 bits with the portable kernels: with one byte less the file isn't loaded. Where
    pointers have 32 bits, `persistent` is less. Kernels of a vendor, such as CMSIS-NN's, may need buffers of their own.

    Attributes:
        total: the smallest arena in which the file was loaded and run. That may be a little more than the two parts
            together, of small files, since what is needed to load a file may be more than to run it.
        activations: what tensors and scratch buffers share, one after the other.
        persistent: what stays from one run to the next: tables, structures, states.
        kinds: {kind of persistent data, in the allocator's words: bytes}, without what kernels keep of their own.
    """

    total: int
    activations: int
    persistent: int
    kinds: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Arena:
        """Read what TFLite Micro prints of its allocations.

        >>> text = "Arena allocation total 9 bytes, Arena allocation head 5 bytes, Arena allocation tail 4 bytes"
        >>> Arena.read(text + ", 'NodeAndRegistration struct' used 3 bytes with alignment overhead").kinds
        {'NodeAndRegistration struct': 3}
        """
        parts = {name: int(number) for name, number in _PART.findall(text)}
        kinds = {name: int(number) for name, number in _KIND.findall(text)}
        return cls(parts["total"], parts["head"], parts["tail"], kinds)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return {**dataclasses.asdict(self), "kinds": dict(self.kinds)}

    def __str__(self) -> str:
        return f"{self.total:,} bytes ({self.activations:,} of activations, {self.persistent:,} that stay)"
