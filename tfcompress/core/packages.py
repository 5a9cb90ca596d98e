"""The packages of extras, which needn't be there, and how each is installed."""

from __future__ import annotations

import dataclasses
import importlib.util


@dataclasses.dataclass(frozen=True)
class Package:
    """A package that only a part of this one needs.

    Attributes:
        module: What is imported of it.
        name: As it is installed.
        use: What it is for, in words.
        extra: Of this package, that has it.
        note: What else is to be known.
    """

    module: str
    name: str
    use: str
    extra: str
    note: str = ""

    def check(self) -> None:
        """Say how it is installed, where it isn't.

        Raises:
            ImportError: It isn't.

        >>> Package("no_such_module", "no-such", "to do what nothing does", "none").check()
        Traceback (most recent call last):
        ...
        ImportError: Expected the package no-such, to do ... Install it: pip install 'tfcompress[none]'.
        """
        if importlib.util.find_spec(self.module) is None:
            raise ImportError(
                f"Expected the package {self.name}, {self.use}. Received: no such package. Install it: pip install "
                f"'tfcompress[{self.extra}]'{self.note}."
            )


TFLITE_MICRO = Package(
    "tflite_micro",
    "tflite-micro",
    "to run a file as a microcontroller does",
    "mcu",
    "; its wheels are for Linux on x86-64",
)
VELA = Package("ethosu", "ethos-u-vela", "which compiles for Arm's NPUs and estimates what a file needs", "mcu")
