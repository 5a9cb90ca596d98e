"""What is said of a command line whose flags are wrong, one by one: what was expected, what was received."""

from __future__ import annotations

import ast
import itertools
import re

from absl import flags
from absl.flags import FlagValues

from tfcompress.cli.job import Job
from tfcompress.cli.wrong_use import UsageError
from tfcompress.core.names import did_you_mean

_VALUE = re.compile(r"flag --(\w+)=(.*?): (.*)")
"""How the messages of absl begin that are about a value, with the name in full."""


def parsed(name: str, job: Job, given: list[str]) -> FlagValues:
    """Return the flags of a command line.

    Args:
        name: Of the job.
        job: The job.
        given: The words behind its name.

    Raises:
        UsageError: If they aren't those of the job.
    """
    values = job.values()
    if given and not given[0].startswith("-"):  # before absl says which flags are missing
        raise UsageError(_without_flag(given, 0, job))
    try:
        rest = values([name, *given])
    except flags.UnrecognizedFlagError as error:
        known = [one for flag in values for one in ((flag, f"no{flag}") if values[flag].boolean else (flag,))]
        near = did_you_mean(error.flagname, known, written="--{}")
        raise UsageError(f"Expected a flag of `tfcompress {name}`. Received: --{error.flagname}.{near}") from None
    except flags.CantOpenFlagFileError as error:
        why = str(error).rpartition("flagfile: ")[2]
        raise UsageError(f"Expected a --flagfile that can be read. Received: {why}.") from None
    except (flags.Error, ValueError) as error:  # a ValueError: --noflag=value
        raise UsageError(_said(str(error), name, job)) from None
    if len(rest) > 1:
        raise UsageError(_without_flag(given, given.index(rest[1]), job))
    return values


def _without_flag(given: list[str], at: int, job: Job) -> str:
    """Return what is said of words without a flag: those of a model, or of a list that commas divide, are known."""
    before, values = given[:at], list(itertools.takewhile(lambda word: not word.startswith("-"), given[at:]))
    said = f"Expected flags only, as --name=value. Received: {' '.join(values)}."
    if not before:
        called = next((name for name in job.required if name in ("model", "models")), "")
    else:
        *front, last = before
        called, equals, value = last.lstrip("-").partition("=")
        if not equals:
            called, value = (front[-1].lstrip("-"), last) if front else ("", last)
        values = [value, *values]
    flag = job.flag(called)
    if flag is None or (before and flag.kind != "list"):
        return said
    return f"{said} Did you mean --{called}={','.join(values) if flag.kind == 'list' else values[0]}?"


def _said(message: str, name: str, job: Job) -> str:
    """Return what absl says of the values of flags, a line each, in this package's words."""
    return " ".join(_said_of_one(line, name, job) for line in message.splitlines())


def _said_of_one(message: str, name: str, job: Job) -> str:
    found = _VALUE.fullmatch(message)
    flag = job.flag(found[1]) if found else None
    if found is None or flag is None:
        return message
    called, value, why = found.groups()
    if flag.kind == "list" and value.startswith("["):
        value = ",".join(ast.literal_eval(value))
    if "must have a value" in why:
        return f"Expected {flag.form(called)}, which `tfcompress {name}` needs. Received: none."
    text = why if why.startswith("Expected") else flag.expected(called)
    if "Received:" in text:
        return text
    near = did_you_mean(value, flag.choices, flag.elsewhere)
    return f"{text} Received: --{called}={value}.{near or flag.advice}"
