"""Which name was meant; what things are called elsewhere. Known without Keras, before whose import flags are read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

CRITERIA_ELSEWHERE = {
    **dict.fromkeys(("taylor", "snip", "saliency", "fisher"), "gradient"),
    **dict.fromkeys(("l1", "abs", "weight"), "magnitude"),
    **dict.fromkeys(("apoz", "activation"), "activation_frequency"),
    **dict.fromkeys(("slimming", "gamma", "batch_norm"), "bn_scale"),
}
"""What criteria of pruning are called in papers and other packages."""

UNITS_ELSEWHERE = {
    **dict.fromkeys(("unstructured", "weight", "fine_grained"), "element"),
    **dict.fromkeys(("structured", "filter", "neuron", "unit"), "channel"),
    "head": "attention_head",
}
"""What is pruned at once."""

SCOPES_ELSEWHERE = {"local": "layer", "layerwise": "layer", "model": "global"}
"""What reaches a sparsity."""

STARTS_ELSEWHERE = {
    "kmeans_plus_plus": "kmeans++",
    "k-means++": "kmeans++",
    "k-means": "kmeans",
    "density_based": "density",
    "quantiles": "quantile",
}
"""Where the values of a codebook start."""


def did_you_mean(
    given: Any, allowed: Iterable[Any], also: Mapping[str, str] | None = None, written: str = "{!r}"
) -> str:
    """Return a question for the nearest of several names, to stand behind a message; empty if none is near.

    Where it is a word of one of them alone, that one is near.

    Args:
        given: The name that is none of them.
        allowed: The names.
        also: {what one of them is called elsewhere: its name here}.
        written: How a name is, as in `str.format`.

    >>> did_you_mean("criterium", ("criterion", "scope"), written="{}=")
    ' Did you mean criterion=?'
    >>> did_you_mean("epochs", ("finetune_epochs", "seed"))
    " Did you mean 'finetune_epochs'?"
    >>> did_you_mean("name", ("unsafe", "seed"))
    ''
    """
    if not isinstance(given, str):
        return ""
    also, allowed = dict(also or {}), [str(name) for name in allowed]
    within = [name for name in allowed if given.lower() in name.split("_")]
    near = difflib.get_close_matches(given.lower(), [*allowed, *also], n=1, cutoff=0.61)
    if len(within) == 1 and given.lower() not in also:
        near = within
    found = also.get(near[0], near[0]) if near else ""
    return f" Did you mean {written.format(found)}?" if found else ""


def nearest_names(given: Iterable[Any], names: Iterable[str]) -> str:
    """Return a question for each name that is none of those there are, of which it may be one that is left.

    >>> nearest_names(["imgae", "row"], ["image", "row"])
    " Did you mean 'image'?"
    """
    given, names = list(given), list(names)
    left = [name for name in names if name not in given]
    return "".join(did_you_mean(name, left) for name in given if name not in names)


def listed(items: Iterable[Any], most: int = 8, separator: str = ", ") -> str:
    """Return what is said of several things: the first ones, and how many more there are.

    Args:
        items: Of which each is said as `str` has it.
        most: How many are said.
        separator: Between two.

    >>> listed(["a", "b", "c"]), listed("abcde", most=3), listed("abcd", most=3, separator="; ")
    ('a, b, c', 'a, b, c and 2 more', 'a; b; c and 1 more')
    """
    said = [str(item) for item in items]
    more = f" and {len(said) - most} more" if len(said) > most else ""
    return separator.join(said[:most]) + more
