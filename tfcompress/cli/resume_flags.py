"""The same command, once more, goes on where it was killed."""

from __future__ import annotations

import os

import keras
from absl.flags import FlagValues

from tfcompress.pipeline.checkpoints import Resume, digest

_WITHOUT_EFFECT = ("overwrite", "threads", "html", "json")


def resume_of(values: FlagValues, target: str | os.PathLike[str]) -> Resume:
    """Return what an earlier run of this command left, and say so.

    Args:
        values: The program's flags.
        target: The file or folder that it makes.
    """
    job = {
        flag.name: flag.value
        for module, flags in values.flags_by_module_dict().items()
        if not module.startswith(("absl", "tensorflow"))
        for flag in flags
        if flag.name not in _WITHOUT_EFFECT
    }
    files = {name: digest(values[name].value) for name in ("model", "data") if name in values}
    resume = Resume(target, {"flags": job, "files": files, "keras": (keras.__version__, keras.backend.backend())})
    if resume.begun:
        print("Resuming an earlier run of this command.")
    return resume
