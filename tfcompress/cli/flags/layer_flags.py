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
    "config": Flag(
        "A .json or .yaml file with a config for each layer: a mapping from names or regular expressions to configs, "
        "of which the first key that matches a layer counts; null leaves its layers alone.",
        shown="FILE",
    ),
}
