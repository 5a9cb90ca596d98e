"""Flags of a search over the parameters of a recipe."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag

TITLE = "Search"

OBJECTIVES = ("drop", "size", "zip", "latency", "arena")

FLAGS = {
    "space": Flag(
        "A recipe, .yaml or .json, in which fields are {choice: [4, 8]} or {low: 0.5, high: 0.9}, with log: true or "
        "step: 0.1, or a step is {choice: [null, {step: cluster, config: 16}]}.",
        shown="FILE",
        called="recipe",
    ),
    "trials": Flag(
        "Trials, those of all processes and of earlier calls together; of a space of at most 64 recipes each once.",
        50,
        "integer",
        "N",
        1,
        1_000_000,
    ),
    "objectives": Flag(
        "What is to be small, between commas: drop (of the metric), size, zip (deflated), latency, arena (RAM of a "
        "microcontroller). Of a file that the recipe exports for an Ethos-U: what Vela estimates.",
        ["drop", "size"],
        "list",
        "drop,size",
        valid=lambda given: given is None or set(given) <= set(OBJECTIVES),
        wanted=f"Expected --objectives of {', '.join(OBJECTIVES)}.",
    ),
    "storage": Flag(
        "Where the study is kept, by default a journal in its folder: a .journal file, sqlite:///search.db or another "
        "database, grpc://host:port of Optuna's server. The same command with the same storage joins in.",
        shown="PLACE",
    ),
}
