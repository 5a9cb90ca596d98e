"""Files of a front are judged on samples that nothing was searched by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tfcompress.search.judge import Judge
from tfcompress.search.report import SearchReport
from tfcompress.search.tries import Try

INTERRUPTED = "interrupted; the same call goes on with it"
"""Why a search ended."""


def prove_front(report: SearchReport, judge: Judge) -> SearchReport:
    """Return a report in which files of the front are judged on samples that nothing was searched by.

    With a budget, those that none beats in both the drop and the cost come first, whatever the objectives are, from the
    largest cost to the smallest, until one isn't shown to keep it; the last before it is chosen. Each is tested at the
    full level: the first that breaks the budget is said to keep it with a probability of at most 5 %, and none behind
    it is reached before (W. Maurer et al., 1995). Of a file that lies on another machine the outcome of its try says
    that it wasn't judged here. Interrupted, it has what was judged until then, and says so.
    """
    tries, chosen, ended = list(report.tries), {}, report.ended
    try:
        for form in report.formats:
            for place in _proved(report, form, tries, judge):
                chosen[form] = place
    except KeyboardInterrupt:
        ended = INTERRUPTED
    return dataclasses.replace(report, tries=tuple(tries), chosen=chosen, ended=ended)


def _proved(report: SearchReport, form: str, tries: list[Try], judge: Judge) -> Iterator[int]:
    """Judge files of a format, and yield the places of those that are shown to keep the budget, in their order."""
    tested = [] if report.budget is None else dataclasses.replace(report, objectives=("drop", report.cost)).front(form)
    holds = True
    for place in dict.fromkeys((*tested, *report.front(form))):
        file = tries[place].file(form)
        assert file is not None
        if not file.path.exists():
            said = f"{file.path.name} lies on another machine: not judged on the rest of validation"
            outcome = "; ".join(filter(None, (tries[place].outcome, said)))
            tries[place] = dataclasses.replace(tries[place], outcome=outcome)
            continue
        proof = judge(file.path, report.budget)
        files = tuple(dataclasses.replace(one, proof=proof) if one is file else one for one in tries[place].files)
        tries[place] = dataclasses.replace(tries[place], files=files)
        holds = holds and proof.verdict == "holds"
        if holds and place in tested:
            yield place
