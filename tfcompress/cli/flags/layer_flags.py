"""Flags that say which layers are meant, and what each gets."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag

TITLE = "Layers"

FLAGS = {
    "layers": Flag(
        "Names or regular expressions of the layers, separated by commas; all by default.",
        kind="list",
        shown="NAME,NAME",
    ),
}
