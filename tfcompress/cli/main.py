"""How `tfcompress JOB --flags` begins and ends: help, exit codes, messages without tracebacks."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from absl.flags import FlagValues

from tfcompress.cli import flag_errors, help_text, process, result
from tfcompress.cli.job import Job
from tfcompress.cli.jobs import job_called, job_names
from tfcompress.cli.wrong_use import UsageError
from tfcompress.core.names import did_you_mean
from tfcompress.core.temporary_folders import temporary_folder
from tfcompress.core.version import VERSION

OK, FAILED, WRONG_USE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull")

# What the user can correct; everything else is a bug of the package and keeps its traceback.
_USERS = (ValueError, TypeError, OSError, RuntimeError, ImportError)


def main() -> int:
    """Do what this process's command line says, and return the exit code.

    It is 0, or 1 if the job failed, or 2 for wrong use; a failure is one message on standard error. SIGINT and SIGTERM
    end the process with 130 and 143.
    """
    process.watch_signals()
    process.print_warnings_as_text()
    try:
        return code_of(sys.argv[1:])
    except BrokenPipeError:  # what read standard output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it at the end
        return PIPE_CLOSED


def code_of(command: Sequence[str]) -> int:
    """Do what `main` does, in a process that may have done other things, and may go on.

    Args:
        command: The command line, without the program's name.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    name, given = (command[0], list(command[1:])) if command else ("", [])
    if name == "help" and given:
        name, given = given[0], ["--help"]
    if name in (*HELP, "help"):
        print(help_text.list_of_jobs())
        return OK
    if name == "--version":
        print(VERSION)
        return OK
    try:
        job = _job(name)
        if any(one in HELP for one in given):
            print(help_text.of_job(name, job))
            return OK
        values = flag_errors.parsed(name, job, given)
    except UsageError as error:
        return _wrong_use(error, name)
    with temporary_folder():
        return _done(name, job, values)


def _done(name: str, job: Job, values: FlagValues) -> int:
    """Do a job, and return the exit code."""
    debug = values.verbosity == "debug"
    try:
        process.import_everything(logs=debug)
        _run(name, job, values)
    except UsageError as error:
        return _wrong_use(error, name)
    except BrokenPipeError:
        raise
    except _USERS as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return INTERRUPTED
    return OK


def _run(name: str, job: Job, values: FlagValues) -> None:
    """Run a job, and write its result; until that is done the same command goes on where it was killed."""
    from tfcompress.cli.device_flags import writes_files
    from tfcompress.cli.resume_flags import resume_of

    with result.printing(values):
        resume = resume_of(values, job)
    result.check_target_of_result(values, here=writes_files(values), begun=resume.begun)
    try:
        with result.printing(values):
            found = job.run(values, resume)
        if found is not None:
            result.write(values, name, found)
    except Exception:
        resume.failed()
        raise
    if not ("dry_run" in values and values.dry_run):
        resume.done()


def _job(name: str) -> Job:
    known = job_names()
    if name in known:
        return job_called(name)
    received = f"Received: {name!r}." if name else "Received: none."
    near = did_you_mean(name, known, written="{}")
    raise UsageError(f"Expected a job: {', '.join(known)}. {received}{near}")


def _wrong_use(error: Exception, name: str) -> int:
    where = f"tfcompress {name} --help" if name in job_names() else "tfcompress --help"
    print(f"error: {error}\nSee {where}.", file=sys.stderr)
    return WRONG_USE
