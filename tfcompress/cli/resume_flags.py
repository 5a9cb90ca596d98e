"""The same command, once more, goes on where it was killed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from absl.flags import FlagValues

if TYPE_CHECKING:
    from tfcompress.pipeline.checkpoints import Resume

_WITHOUT_EFFECT = ("overwrite", "threads", "html", "json", "verbosity")


def resume_of(values: FlagValues, target: str | os.PathLike[str]) -> Resume:
    """Return what an earlier run of this command left, and say so.

    Args:
        values: The program's flags.
        target: The file or folder that it makes.
    """
    import keras

    from tfcompress.pipeline.checkpoints import Resume, digest

    job = {name: values[name].value for name in values if values[name].name not in _WITHOUT_EFFECT}
    kept = {"model": True, "data": False, "features": True, "config": True}
    files = {name: digest(values[name].value, contents=whole) for name, whole in kept.items() if name in values}
    resume = Resume(target, {"flags": job, "files": files, "keras": (keras.__version__, keras.backend.backend())})
    if resume.begun:
        print("Resuming an earlier run of this command.")
    return resume
