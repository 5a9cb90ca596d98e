"""The NPUs that can be asked for, and the machines around them that are assumed."""

from __future__ import annotations

import dataclasses

from tfcompress.core.names import nearest_names


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
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Shared_Sram", (32, 64, 128, 256)),
    "ethos-u65": ("Ethos_U65_Client_Server", "Dedicated_Sram_384KB", (256, 512)),
    "ethos-u85": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB", (128, 256, 512, 1024, 2048)),
}
"""What Vela 5.2 takes by itself, said here so that an estimate doesn't change with it."""

ACCELERATORS = {
    f"{kind}-{products}": Accelerator(f"{kind}-{products}", system, memory)
    for kind, (system, memory, sizes) in _KINDS.items()
    for products in sizes
}


def accelerator_of(name: str) -> Accelerator:
    """Return an accelerator by its name.

    Raises:
        ValueError: there is none of that name; the message has those that there are.

    >>> accelerator_of("ethos-u55-128").memory
    'Shared_Sram'
    """
    if name not in ACCELERATORS:
        raise ValueError(
            f"Expected the name of an NPU: {', '.join(ACCELERATORS)}. Received: {name!r}."
            f"{nearest_names(name, ACCELERATORS)}"
        )
    return ACCELERATORS[name]
