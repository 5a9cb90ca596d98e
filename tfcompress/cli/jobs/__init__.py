"""The jobs of the command: each module here is one, called as it is, with its flags, its help, and what it does.

A new job is a new module with a `JOB` in it, and nothing else.
"""

from __future__ import annotations

import importlib
import pkgutil

from tfcompress.cli.job import Job


def job_names() -> list[str]:
    """Return the names of all jobs."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def job_called(name: str) -> Job:
    """Return the job of a name."""
    job: Job = importlib.import_module(f"{__name__}.{name}").JOB
    return job


def every_job() -> dict[str, Job]:
    """Return all jobs by their names."""
    return {name: job_called(name) for name in job_names()}
