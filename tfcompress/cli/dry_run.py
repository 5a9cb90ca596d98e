"""What `--dry_run` says, after everything was checked: what each layer would get, and which files would be written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import keras

import tfcompress as tfc
from tfcompress.reports.tables import to_text


def of_layers(model: keras.Model) -> list[dict[str, Any]]:
    """Return what each layer with weights would get, of a model with wrappers around its layers.

    Args:
        model: Pruned, quantized or in mixed precision, and not yet trained.
    """
    return [
        {
            "layer": row.layer,
            "class": row.kind,
            "weights": "x".join(map(str, row.shape)),
            "config": row.config,
            "status": f"{row.status}, float fallback" if row.fallback and "float" not in row.status else row.status,
        }
        for row in tfc.summary(model).rows
        if row.weight or row.status != "no weights"
    ]


def said(
    would: str, rows: Sequence[dict[str, Any]] = (), files: Iterable[str | os.PathLike[str]] = ()
) -> dict[str, Any]:
    """Print what would be done, and return it as the result of the job.

    Args:
        would: In a sentence, "Would train ...".
        rows: A line of the table each, with the same keys.
        files: What would be written.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    print(would)
    if rows:
        keys = [key for key in rows[0] if any(row[key] not in ("", None) for row in rows)]
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for key in keys:
            table.add_column(key, overflow="fold")
        for row in rows:
            table.add_row(*(Text(str("" if row[key] is None else row[key])) for key in keys))
        print(to_text(table, width=110))
    paths = [os.fspath(file) for file in files]
    for path in paths:
        print(f"Would write {path}{' (replacing what is there)' if os.path.exists(path) else ''}.")
    print("Nothing was done: --dry_run.")
    return {"dry_run": True, "would": would, "plan": list(rows), "would_write": paths}
