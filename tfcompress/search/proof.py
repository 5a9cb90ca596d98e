"""The files of a search with a budget are proved in a fixed sequence, which holds over calls that go on."""

from __future__ import annotations

import dataclasses

from tfcompress.search import fixed_sequence
from tfcompress.search.fixed_sequence import following, held
from tfcompress.search.judge import Judge
from tfcompress.search.trials import Trials
from tfcompress.search.tries import TriedFile, Try

ANCHORS = 2
"""How many of the largest files are judged in any case: what there is to fall back on."""


def sequence(trials: Trials, form: str) -> list[Try]:
    """Return tries whose file of a format promises to hold, in the order in which they are judged."""
    keys = {one.key: one for one in trials.tries}
    return [keys[key] for key in _proposed(trials, form)]


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
    for key in held(proved):
        if key in _files(trials, form):  # else it held, but its file is gone
            _judge(trials, judge, key, form)
    proposed = _proposed(trials, form)
    costs = {key: file.cost(trials.minimize) for key, file in _files(trials, form).items()}
    while (found := following(proved, costs, proposed)) is not None:
        _judge(trials, judge, found, form)
    return proven(trials, form)


def proven(trials: Trials, form: str) -> TriedFile | None:
    """Return the last file of a format's sequence, as far as it was judged, that is shown to hold."""
    files = _files(trials, form)
    found = [files[key] for key in held(trials.proved.get(form, {})) if key in files and files[key].proof is not None]
    return found[-1] if found else None


def _files(trials: Trials, form: str) -> dict[str, TriedFile]:
    return {one.key: file for one in trials.tries if (file := one.file(form)) is not None}


def _proposed(trials: Trials, form: str) -> dict[str, float]:
    files = _files(trials, form)
    return fixed_sequence.sequence(files, trials.minimize, trials.budget, trials.proof_samples, anchors=ANCHORS)


def _judge(trials: Trials, judge: Judge, key: str, form: str) -> None:
    """Keep the proof of a file together with its place in the sequence."""
    file = _files(trials, form)[key]
    if file.proof is None:
        file = dataclasses.replace(file, proof=judge(file.source, trials.budget))
    assert file.proof is not None
    trials.proved[form][key] = file.proof.verdict
    now = next(one for one in trials.tries if one.key == key)
    files = tuple(file if one.format == form else one for one in now.files)
    trials.replace(dataclasses.replace(now, files=files))
