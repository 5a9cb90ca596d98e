"""The same command, once more, goes on where it was killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl.flags import FlagValues

from tfcompress.cli.job import Job

if TYPE_CHECKING:
    from tfcompress.pipeline.checkpoints import Resume

_WITHOUT_EFFECT = ("overwrite", "threads", "html", "json", "verbosity", "dry_run")


def resume_of(values: FlagValues, job: Job) -> Resume:
    """Return what an earlier run of this command left, and say so."""
    import keras

    from tfcompress.core.plain_files import SUFFIXES
    from tfcompress.pipeline.checkpoints import Resume, digest

    given = {name: values[name].value for name in values if values[name].name not in _WITHOUT_EFFECT}
    kept = {"model": True, "data": False, "features": True, "config": True}
    if "recipe" in values and str(values["recipe"].value).lower().endswith(SUFFIXES):  # else it is a name
        kept["recipe"] = True
    files = {name: digest(values[name].value, contents=whole) for name, whole in kept.items() if name in values}
    about = {"flags": given, "files": files, "keras": (keras.__version__, keras.backend.backend())}
    resume = Resume(job.target(values) or "nothing", about)
    if resume.begun:
        print("Resuming an earlier run of this command.")
    return resume
