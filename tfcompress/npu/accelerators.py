"""The NPUs that can be asked for, and the machines around them that are assumed."""

from __future__ import annotations

import dataclasses
import functools

from tfcompress import targets
from tfcompress.core.names import did_you_mean


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """An NPU and the machine around it, in the words of Arm's compiler Vela.

    Attributes:
        name: "ethos-u55-128": its kind, and how many products it computes in a cycle.
        system: clock and memories.
        memory: what lies where.
    """

    name: str
    system: str
    memory: str


_KINDS = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65": ("Ethos_U65_Client_Server", "Dedicated_Sram_384KB"),
    "ethos-u85": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
}
"""What Vela 5.2 takes by itself, said here so that an estimate doesn't change with it."""


@functools.cache
def accelerators() -> dict[str, Accelerator]:
    """Return the accelerators of the package's targets, by name."""
    names = filter(None, (targets.get(name).accelerator for name in targets.names()))
    return {name: Accelerator(name, *_KINDS[name.rpartition("-")[0]]) for name in names}


def accelerator_of(name: str) -> Accelerator:
    """Return an accelerator by its name.

    Raises:
        ValueError: there is none of that name; the message has those that there are.

    >>> accelerator_of("ethos-u55-128").memory
    'Shared_Sram'
    """
    known = accelerators()
    if name not in known:
        raise ValueError(
            f"Expected the name of an NPU: {', '.join(known)}. Received: {name!r}.{did_you_mean(name, known)}"
        )
    return known[name]
