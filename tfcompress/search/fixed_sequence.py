"""Which file is shipped: candidates are judged one after the other on data that nothing was chosen by.

They are tested in a fixed sequence, the largest first, each at the full level, until one isn't shown to hold; the last
one before it is shipped. The sequence is made of what was seen on other data, so that the first of them that breaks the
budget is said to hold with a probability of at most 5 %, and none behind it is reached before: no correction is needed
(W. Maurer et al., 1995; A. N. Angelopoulos et al., "Learn then test", arXiv:2110.01052, section on fixed-sequence
testing). A search that goes on tests the same sequence on the same data: what was proved stays in its place, what is
found since comes behind it, and nothing comes behind one that failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfcompress.search.tries import TriedFile

ALIKE = 0.02
"""By which share costs may differ for one of two files to be enough."""

HOLDS = "holds"
"""The verdict of what may be shipped."""


def sequence(
    files: Mapping[str, TriedFile], cost: str, budget: float, samples: int, *, anchors: int = 0
) -> dict[str, float]:
    """Return the costs of files that promise to hold, by name, the largest first: what saves less loses less.

    Of several of about the same cost it is the one that is expected to lose least. One is left out that a smaller one
    is expected to beat.

    Args:
        files: that were judged on the data that the search chooses by, by name.
        cost: "size", "zip", "latency" or "arena".
        budget: the largest drop.
        samples: how many will prove a file.
        anchors: how many of the largest are kept in any case: what there is to fall back on.
    """
    found = [
        (file.cost(cost), file.selection.expected(samples), name)
        for name, file in files.items()
        if file.selection is not None and file.selection.promises(budget, samples)
    ]
    ordered: list[tuple[float, float, str]] = []
    for each in sorted(found, key=lambda each: (-each[0], each[1])):
        if ordered and each[0] > (1 - ALIKE) * ordered[-1][0]:
            if each[1] >= ordered[-1][1]:
                continue
            ordered.pop()
        ordered.append(each)
    kept: list[tuple[float, float, str]] = []
    least = float("inf")
    for place, each in reversed(list(enumerate(ordered))):
        if place < anchors or each[1] <= least:
            kept.append(each)
        least = min(least, each[1])
    return {name: value for value, _, name in kept[::-1]}


def following(proved: Mapping[str, str], costs: Mapping[str, float], proposed: Mapping[str, float]) -> str | None:
    """Return the name of the file that is to be judged next; `None`: none is any more.

    Args:
        proved: the verdicts until now, of all calls, in the order in which files were judged.
        costs: of all files that there are, by name.
        proposed: as `sequence` returns it.

    >>> following({"a": "holds"}, {"a": 900}, {"a": 900, "c": 950, "b": 500})
    'b'
    >>> following({"a": "holds", "b": "not shown"}, {"a": 900, "b": 500}, {"d": 100})
    """
    if any(verdict != HOLDS for verdict in proved.values()):
        return None
    least = min((costs[name] for name in proved if name in costs), default=float("inf"))
    return next((name for name, cost in proposed.items() if name not in proved and cost < least), None)


def held(proved: Mapping[str, str]) -> Sequence[str]:
    """Return the names of files before the first that isn't shown to hold, in the order in which they were judged.

    >>> held({"a": "holds", "b": "broken", "c": "holds"})
    ['a']
    """
    names = []
    for name, verdict in proved.items():
        if verdict != HOLDS:
            break
        names.append(name)
    return names
