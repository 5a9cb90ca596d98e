"""Which file is shipped: candidates are judged one after the other on data that nothing was chosen by.

They are tested in a fixed sequence, the safest first, each at the full level, until one isn't shown to hold; the last
one before it is shipped. The sequence is made of what was seen on other data, so that the first of them that breaks the
budget is said to hold with a probability of at most 5 %, and none behind it is reached before: no correction is needed
(W. Maurer et al., 1995; A. N. Angelopoulos et al., "Learn then test", arXiv:2110.01052, section on fixed-sequence
testing). A search that goes on tests the same sequence on the same data: what was proved stays in its place, what is
found since comes behind it, and nothing comes behind one that failed.
"""

from __future__ import annotations

import dataclasses

from tfcompress.search.judge import Judge
from tfcompress.search.trials import Trials
from tfcompress.search.tries import TriedFile, Try

ALIKE = 0.02
"""By which share costs may differ for one of two files to be enough."""


ANCHORS = 2
"""How many of the largest files are judged in any case: what there is to fall back on."""

HOLDS = "holds"
"""The verdict of what may be shipped."""


def sequence(trials: Trials, form: str) -> list[Try]:
    """Return tries whose file of a format promises to hold, the largest first: what saves less loses less.

    Of several of about the same cost it is the one that is expected to lose least. Behind the first two one is left
    out that a smaller one is expected to beat.
    """
    found: list[tuple[float, float, Try]] = []
    for tried in trials.tries:
        file = tried.file(form)
        if file is not None and file.selection is not None and trials.promises(tried, form):
            found.append((file.cost(trials.minimize), trials.bound(file.selection), tried))
    ordered: list[tuple[float, float, Try]] = []
    for cost, bound, tried in sorted(found, key=lambda each: (-each[0], each[1])):
        if ordered and cost > (1 - ALIKE) * ordered[-1][0]:
            if bound >= ordered[-1][1]:
                continue
            ordered.pop()
        ordered.append((cost, bound, tried))
    kept: list[Try] = []
    least = float("inf")
    for place, (_, bound, tried) in reversed(list(enumerate(ordered))):
        if place < ANCHORS or bound <= least:
            kept.append(tried)
        least = min(least, bound)
    return kept[::-1]


def prove(trials: Trials, judge: Judge, form: str) -> TriedFile | None:
    """Judge the sequence of a format until one isn't shown to hold; return the last that is.

    The sequence begins with what earlier calls proved, in their order; smaller files come behind.

    Args:
        trials: all that was tried; the judgements and their order become part of them.
        judge: of the data that nothing was chosen by.
        form: the format.

    Returns:
        The file that is shipped; `None`: none is shown to hold.
    """
    proved = trials.proved.setdefault(form, {})
    keys = {one.key: one for one in trials.tries}
    costs = [file.cost(trials.minimize) for key in proved if key in keys and (file := keys[key].file(form))]
    least = min(costs, default=float("inf"))
    new = [(one.key, file) for one in sequence(trials, form) if one.key not in proved and (file := one.file(form))]
    for key in (*proved, *(key for key, file in new if file.cost(trials.minimize) < least)):
        if proved.get(key, HOLDS) != HOLDS:
            break
        if key not in keys or keys[key].file(form) is None:  # it held, but its file is gone
            continue
        _judge(trials, judge, keys[key], form)
        if proved[key] != HOLDS:
            break
    return proven(trials, form)


def proven(trials: Trials, form: str) -> TriedFile | None:
    """Return the last file of a format's sequence, as far as it was judged, that is shown to hold."""
    keys = {one.key: one for one in trials.tries}
    found = None
    for key, verdict in trials.proved.get(form, {}).items():
        if verdict != HOLDS:
            break
        file = keys[key].file(form) if key in keys else None
        found = file if file is not None and file.proof is not None else found
    return found


def _judge(trials: Trials, judge: Judge, tried: Try, form: str) -> None:
    """Keep the proof of a file together with its place in the sequence."""
    file = tried.file(form)
    assert file is not None
    if file.proof is None:
        file = dataclasses.replace(file, proof=judge(file.path, trials.budget))
    assert file.proof is not None
    trials.proved[form][tried.key] = file.proof.verdict
    now = next(one for one in trials.tries if one.key == tried.key)
    files = tuple(file if one.format == form else one for one in now.files)
    trials.replace(dataclasses.replace(now, files=files))
