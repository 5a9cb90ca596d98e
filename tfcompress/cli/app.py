"""How every program in `scripts/` starts and ends: help, exit codes, messages without tracebacks."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable

from absl import flags
from absl.flags import FlagValues

from tfcompress.core.temporary_folders import temporary_folder

OK, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

# What the user can correct; everything else is a bug of the package and keeps its traceback.
_USERS = (ValueError, TypeError, OSError, RuntimeError, ImportError)


class UsageError(Exception):
    """Flags that are right one by one, and wrong together."""


def refuse_without_effect(values: FlagValues, why: str, *names: str) -> None:
    """Raise UsageError if one of the flags is on the command line: nothing would come of it."""
    for name in names:
        if values[name].present:
            raise UsageError(
                f"Expected no --{name} {why}, where it has no effect. Received: --{name}={values[name].value}."
            )


def run(main: Callable[[FlagValues], None], doc: str, argv: list[str] | None = None) -> None:
    """Parse the flags, run `main`, and end the process.

    The exit code is 0, or 1 if the job failed, or 2 for wrong use; a failure is one message on standard error. Programs
    in `scripts/` end with 130 and 143 on SIGINT and SIGTERM.

    Args:
        main: The program; it is given the parsed flags.
        doc: The program's help: its first line is one example.
        argv: The command line; `None` for that of the process.
    """
    with temporary_folder():
        code = code_of(main, doc, sys.argv if argv is None else argv)
    sys.exit(code)


def code_of(main: Callable[[FlagValues], None], doc: str, argv: list[str]) -> int:
    """Do what `run` does and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    values = flags.FLAGS
    if any(argument in ("--help", "-help", "-h", "--helpshort", "--helpfull") for argument in argv[1:]):
        print(help_text(values, doc))
        return OK
    try:
        rest = values(argv)
        if len(rest) > 1:
            raise UsageError(f"Expected flags only. Received: {' '.join(rest[1:])}.")
    except (flags.Error, UsageError, ValueError) as error:  # a ValueError: --noflag=value
        return _wrong_use(error, argv)
    # Each of several models is traced once; TensorFlow takes that for one that is traced again and again, and warns.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*__array__.*copy keyword.*", category=DeprecationWarning)
    try:
        main(values)
    except UsageError as error:
        return _wrong_use(error, argv)
    except _USERS as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return INTERRUPTED
    return OK


def _wrong_use(error: Exception, argv: list[str]) -> int:
    print(f"error: {error}\nSee {argv[0]} --help.", file=sys.stderr)
    return WRONG_USE


def help_text(values: FlagValues, doc: str) -> str:
    """Return the help: the program's text, then the flags of this package, each with its default."""
    lines = [doc.strip(), "", "Flags:"]
    for module, defined in sorted(values.flags_by_module_dict().items()):
        if module.startswith("absl") or module.startswith("tensorflow"):
            continue
        for flag in sorted(defined, key=lambda flag: flag.name):
            default = "" if flag.default in (None, "", []) else f" (default: {flag.default_as_str.strip(chr(39))})"
            lines += [f"  --{flag.name}", f"      {flag.help}{default}"]
    return "\n".join(lines)
