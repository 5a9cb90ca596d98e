"""What scans wrote, whichever kind it is."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

from tfcompress.pipeline.codebooks import CodebookComparison
from tfcompress.pipeline.scan import Scan
from tfcompress.pipeline.sensitivity_curves import Sensitivity
from tfcompress.pipeline.sweep import Sweep

KINDS: tuple[type[Scan], ...] = (Sensitivity, Sweep, CodebookComparison)


def read_scan(path: str | os.PathLike[str]) -> Scan:
    """Return what a scan wrote with `to_json`.

    Args:
        path: of what `tfc.sensitivity`, `tfc.sweep` or `tfc.compare_codebooks` found.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it can't be read.
        ValueError: the file holds something else.
    """
    try:
        found = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except ValueError:  # each kind says what is wrong with it
        found = None
    names = set(found) - {"version"} if isinstance(found, dict) else set()
    for kind in KINDS:
        if names == {field.name for field in dataclasses.fields(kind)}:  # type: ignore[arg-type]
            return kind.from_json(path)
    raise ValueError(
        f"Expected a .json file that the job sensitivity or prune --sweep wrote. Received: {os.fspath(path)!r}, which "
        "holds something else. Name the file of their --output."
    )
