"""One flag: what it holds, what it may be, and what the help says of it."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from absl import flags
from absl.flags import FlagValues


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag, as jobs share it: each is described once.

    Attributes:
        help: What it says, in the help.
        default: Without it on the command line.
        kind: "text", "list" (between commas), "switch", "integer", "number" or "choice".
        shown: What stands for its value in the help, as "FILE".
        least: Of a number.
        most: Of a number.
        choices: What a choice may be.
        elsewhere: {what a choice is called elsewhere: its name here}.
        valid: What else a value has to be.
        wanted: What is said of a value that isn't: "Expected ...".
        advice: What is said behind that, of a value to which none is near: what else does it, " Do ...".
        called: Its name on the command line, where that isn't its name in the table.
        short: A second name of one letter.
    """

    help: str
    default: Any = None
    kind: str = "text"
    shown: str = "TEXT"
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] = dataclasses.field(default_factory=dict)
    valid: Callable[[Any], bool] | None = None
    wanted: str = ""
    advice: str = ""
    called: str = ""
    short: str | None = None

    def define(self, name: str, values: FlagValues, default: Any) -> None:
        """Define it among the flags of a job, under a name and with a default."""
        how: dict[str, Any] = {"flag_values": values, "short_name": self.short}
        if self.kind == "switch":
            flags.DEFINE_bool(name, default, self.help, **how)
        elif self.kind == "choice":
            flags.DEFINE_enum(name, default, list(self.choices), self.help, **how)
        elif self.kind == "list":
            flags.DEFINE_list(name, default, self.help, **how)
        elif self.kind == "integer":
            flags.DEFINE_integer(name, default, self.help, _whole(self.least), _whole(self.most), **how)
        elif self.kind == "number":
            flags.DEFINE_float(name, default, self.help, self.least, self.most, **how)
        else:
            flags.DEFINE_string(name, default, self.help, **how)
        self._check_emptiness(name, values)
        if self.valid is not None:
            flags.register_validator(name, self.valid, self.wanted, flag_values=values)

    def _check_emptiness(self, name: str, values: FlagValues) -> None:
        """Refuse what no flag of its kind may be: a list or text with nothing in it, a number that is none."""
        how = {"flag_values": values}
        if self.kind == "list":
            text = f"Expected {self.form(name)}, each once."
            flags.register_validator(name, lambda given: _full(name, given), text, **how)
        elif self.kind == "text":
            text = f"Expected {self.form(name)}. Received: none."
            flags.register_validator(name, lambda given: given != "", text, **how)
        elif self.kind == "number":
            text = self.expected(name)
            flags.register_validator(name, lambda given: given is None or math.isfinite(given), text, **how)

    def form(self, name: str) -> str:
        """Return how it is written on a command line, for the help."""
        if self.kind == "switch":
            return f"--[no]{name}"
        if self.kind == "choice":
            return f"--{name}={'|'.join(self.choices)}"
        return f"--{name}={self.shown}"

    def expected(self, name: str) -> str:
        """Return what a value of it is to be, for a message."""
        if self.wanted:
            return self.wanted
        known = self.least is not None and self.most is not None
        between = f" from {self.least:,g} to {self.most:,.15g}" if known else ""
        kinds = {"integer": "a whole number", "number": "a number"}
        what = f", {kinds[self.kind]}{between}" if self.kind in kinds else ""
        return f"Expected {self.form(name)}{what}."


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _full(name: str, given: list[str] | None) -> bool:
    """Return whether a list has an entry, none of them empty and each once; of files by where they lie."""
    same: Callable[[str], str] = os.path.realpath if name in ("models", "outputs") else str
    try:
        return given is None or (bool(given) and all(given) and len(set(map(same, given))) == len(given))
    except ValueError:  # a null character
        return False
