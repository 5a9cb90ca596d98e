"""Flags of how a job is run."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag

VERBOSITIES = ("quiet", "normal", "debug")

TITLE = "Running"

FLAGS = {
    "dry_run": Flag(
        "Check everything, say what would be done and which files would be written, and stop.", False, "switch"
    ),
    "seed": Flag(
        "Seed of everything that is random; it also divides samples that aren't divided into training and test data.",
        0,
        "integer",
        "N",
        0,
        2**32 - 1,
    ),
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
