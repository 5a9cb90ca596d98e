"""Whether what a file needs of a device's memory fits into what there is."""

from __future__ import annotations

import abc
from collections.abc import Mapping

from tfcompress.core.arguments import check_count

Needs = Mapping[str, "tuple[int, int | None]"]
"""{kind of memory: (bytes that are needed, bytes that there are; None: not said)}."""


def check_limits(ram: int | None, flash: int | None) -> None:
    """Refuse limits that are no numbers of bytes; None: not said."""
    for name, limit in (("ram", ram), ("flash", flash)):
        if limit is not None:
            check_count(name, limit)


def too_much(needs: Needs) -> dict[str, int]:
    """Return {kind of memory: bytes by which it is too small}, of those that aren't enough.

    >>> too_much({"RAM": (5_000, 8_000), "flash": (3_000, 2_000)})
    {'flash': 1000}
    """
    return {name: took - most for name, (took, most) in needs.items() if most is not None and took > most}


def verdict(needs: Needs) -> str:
    """Return in words whether it fits; nothing where no limit was given.

    >>> verdict({"RAM": (5_000, 8_000), "flash": (3_000, 2_000)}), verdict({"RAM": (5_000, None)})
    ('1,000 bytes of flash too large', '')
    """
    if all(most is None for _, most in needs.values()):
        return ""
    return "; ".join(f"{most:,} bytes of {name} too large" for name, most in too_much(needs).items()) or "fits"


class Fitting(abc.ABC):
    """What needs memory, of which there may be a limit."""

    @property
    @abc.abstractmethod
    def _needs(self) -> Needs:
        """What is needed, and what there is."""

    @property
    def too_much(self) -> dict[str, int]:
        """{"RAM", "SRAM" or "flash": bytes by which it is too large}, of what it doesn't fit into."""
        return too_much(self._needs)

    @property
    def fits(self) -> bool:
        """Whether it fits into the limits that were given."""
        return not self.too_much

    def verdict(self) -> str:
        """Return in words whether it fits; nothing where no limit was given."""
        return verdict(self._needs)
