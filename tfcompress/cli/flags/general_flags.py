"""Flags that every job has."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag

VERBOSITIES = ("quiet", "normal", "debug")

TITLE = "Every job"

FLAGS = {
    "json": Flag(
        "A .json file to write the result to: figures, files, seed, versions; '-': standard output, where nothing else "
        "is printed then.",
        shown="FILE|-",
    ),
    "verbosity": Flag(
        "quiet: errors alone; debug: also what libraries log, and where an error came from.",
        "normal",
        "choice",
        choices=VERBOSITIES,
        short="v",
    ),
}
