"""What `tfcompress --help` and `tfcompress JOB --help` print."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable

from tfcompress.cli.flags import GROUPS
from tfcompress.cli.job import Job
from tfcompress.cli.jobs import every_job

_ABOUT = "Prunes, quantizes and ships Keras 3 models as TFLite and ONNX, with proof that the file is the model."
_EXAMPLE = "tfcompress compress --model=my.keras --data=my.npz --sparsity=0.8"
_AFTER = (
    "`tfcompress JOB --help` says more of a job, and which flags it takes. Flags may also stand in a file, one a line: "
    "--flagfile=FILE.",
    "A training that was interrupted or killed goes on where it was when the same command is given once more.",
    "Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted, 143 terminated.",
)


def _width() -> int:
    return min(max(shutil.get_terminal_size((100, 24)).columns, 40), 120)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, _width(), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _blocks(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text)


def list_of_jobs() -> str:
    """Return what the command does, and its jobs with a sentence each."""
    jobs = every_job()
    wide = max(map(len, jobs))
    lines = []
    for name, job in jobs.items():
        gap = " " * (wide + 4)
        lines.append(_wrapped(job.does, gap).replace(gap, f"  {name:<{wide}}  ", 1))
    return _blocks(
        (_wrapped(_ABOUT), f"  {_EXAMPLE}", "\n".join(["Jobs:", *lines]), *(_wrapped(text) for text in _AFTER))
    )


def of_job(name: str, job: Job) -> str:
    """Return what a job does, an example, and its flags by groups, each with its default."""
    values = job.values()
    parts = [_wrapped(job.does), f"  tfcompress {name} {job.example}", _wrapped(job.more)]
    for title, group in GROUPS.items():
        lines = []
        for key in (key for key in group if key in job.names()):
            flag = group[key]
            called = flag.called or key
            short = f", -{flag.short}" if flag.short else ""
            lines += [f"  {flag.form(called)}{short}", _wrapped(flag.help + _default(values, called, job), " " * 6)]
        if lines:
            parts.append("\n".join([f"{title}:", *lines]))
    return _blocks(parts)


def _default(values: object, name: str, job: Job) -> str:
    if name in job.required:
        return " (required)"
    default = values[name].default  # type: ignore[index]
    if default in (None, "", []):
        return ""
    shown = ("yes" if default else "no") if isinstance(default, bool) else default
    return f" (default: {shown})"
