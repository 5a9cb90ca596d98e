"""Flags that are right one by one, and wrong together."""

from __future__ import annotations

from absl.flags import FlagValues


class UsageError(Exception):
    """What is wrong with a command line: the process ends with 2."""


def refuse_without_effect(values: FlagValues, why: str, *names: str, instead: str = "") -> None:
    """Raise UsageError if one of the flags is on the command line: nothing would come of it.

    Args:
        values: The flags.
        why: With or without what they have no effect.
        *names: Theirs.
        instead: What to do, " Do ...".

    Raises:
        UsageError: If one of them is there.
    """
    for name in names:
        if values[name].present:
            raise UsageError(
                f"Expected no --{name} {why}, where it has no effect. Received: --{name}={values[name].value}.{instead}"
            )
