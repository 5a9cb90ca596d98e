"""Files of a front are judged on samples that nothing was searched by."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from tfcompress.reports.tables import plain
from tfcompress.search.fixed_sequence import HOLDS, following, held, sequence
from tfcompress.search.judge import Judge
from tfcompress.search.judgement import Judgement
from tfcompress.search.report import SearchReport
from tfcompress.search.tries import TriedFile, Try

INTERRUPTED = "interrupted; the same call goes on with it"
"""Why a search ended."""

PROVED = "proved"
"""How what a study knows of a file that was proved begins."""


@dataclasses.dataclass
class Proofs:
    """What was proved of a study's files, by all calls, processes and machines together.

    Attributes:
        study: of Optuna.
    """

    study: Any

    def of(self, form: str) -> dict[str, Judgement]:
        """Return judgements of files of a format, by the names of their tries, in the order in which they were made."""
        known = [
            one
            for name, one in self.study.user_attrs.items()
            if name.startswith(f"{PROVED} ") and one["format"] == form
        ]
        known.sort(key=lambda one: (one["place"], one["time"]))
        return {one["try"]: Judgement.from_dict(one["judgement"]) for one in known}

    def verdicts(self, form: str) -> dict[str, str]:
        """Return verdicts of files of a format, likewise."""
        return {name: one.verdict for name, one in self.of(form).items()}

    def keep(self, form: str, name: str, judgement: Judgement) -> None:
        """Keep a judgement, behind those that there are: each by itself, so that no process writes over another's."""
        known = {"format": form, "try": name, "place": len(self.of(form)), "time": time.time()}
        self.study.set_user_attr(f"{PROVED} {form} {name}", {**known, "judgement": plain(judgement.to_dict())})


def prove_front(report: SearchReport, judge: Judge, proofs: Proofs) -> SearchReport:
    """Return a report in which files of the front are judged on samples that nothing was searched by.

    With a budget those that promise to keep it come first, whatever the objectives are, in a fixed sequence, from the
    largest cost to the smallest, until one isn't shown to; the last before it is chosen. The study keeps the sequence
    and its verdicts: a call that goes on, and other processes, test what is smaller behind what held, and nothing
    behind what failed (fixed_sequence.py). Of a file that lies on another machine the outcome of its try says so.
    Interrupted, it has what was judged until then, and says so.

    Args:
        report: of what was tried.
        judge: of the samples that nothing was searched by.
        proofs: of the study.
    """
    proof = _FrontProof(report, judge, proofs)
    ended = report.ended
    try:
        for form in report.formats:
            proof.judge_all(form)
    except KeyboardInterrupt:
        ended = INTERRUPTED
    chosen = {form: place for form in report.formats if (place := proof.chosen(form)) is not None}
    about = {**report.about, **proof.said}
    return dataclasses.replace(report, tries=tuple(proof.tries), chosen=chosen, about=about, ended=ended)


class _FrontProof:
    """Judges files of a report.

    Attributes:
        tries: of the report, with what is judged.
        said: what else the report says, by name.
    """

    def __init__(self, report: SearchReport, judge: Judge, proofs: Proofs):
        self.report, self.judge, self.proofs = report, judge, proofs
        self.tries = list(report.tries)
        self.said: dict[str, str] = {}
        self.places = {one.name: place for place, one in enumerate(report.tries)}

    def judge_all(self, form: str) -> None:
        """Judge files of a format: the sequence, then the rest of the front."""
        if self.report.budget is not None:
            self._sequence(form, self.report.budget)
            for name, judgement in self.proofs.of(form).items():
                if name in self.places:
                    self._keep(self.places[name], form, judgement)
        for place in self.report.front(form):
            file = self._file(place, form)
            if file.proof is None and file.path.exists():
                self._keep(place, form, self.judge(file.source, self.report.budget))
        for place in dict.fromkeys((*map(self.places.__getitem__, self._proposed(form)), *self.report.front(form))):
            file = self._file(place, form)
            if not file.path.exists():
                said = "not judged on the rest of validation" if file.proof is None else "it was judged there"
                said = f"{file.path.name} lies on another machine: {said}"
                outcome = "; ".join(filter(None, (self.tries[place].outcome, said)))
                self.tries[place] = dataclasses.replace(self.tries[place], outcome=outcome)

    def chosen(self, form: str) -> int | None:
        """Return the place of the last file of the sequence that is shown to keep the budget, and lies here."""
        if self.report.budget is None:
            return None
        files = self._files(form)
        names = [name for name in held(self.proofs.verdicts(form)) if name in files and files[name].path.exists()]
        return self.places[names[-1]] if names else None

    def _sequence(self, form: str, budget: float) -> None:
        files = self._files(form)
        costs = {name: file.cost(self.report.cost) for name, file in files.items()}
        proposed = self._proposed(form, here=True)
        while (name := following(self.proofs.verdicts(form), costs, proposed)) is not None:
            self.proofs.keep(form, name, self.judge(files[name].source, budget))
        verdicts = self.proofs.verdicts(form)
        failed = next((name for name, verdict in verdicts.items() if verdict != HOLDS), None)
        if failed is not None and not proposed.keys() <= verdicts.keys():
            self.said[f"proof of {form}"] = (
                f"no file is chosen any more that isn't judged yet, since {failed} wasn't shown to keep the budget: "
                "for that search under another name in another folder, with other validation samples"
            )

    def _proposed(self, form: str, here: bool = False) -> Mapping[str, float]:
        if self.report.budget is None:
            return {}
        files = {name: one for name, one in self._files(form).items() if not here or one.path.exists()}
        return sequence(files, self.report.cost, self.report.budget, self.judge.samples)

    def _files(self, form: str) -> Mapping[str, TriedFile]:
        return {one.name: file for one in self.tries if (file := one.file(form)) is not None}

    def _file(self, place: int, form: str) -> TriedFile:
        file = self.tries[place].file(form)
        assert file is not None
        return file

    def _keep(self, place: int, form: str, judgement: Judgement) -> None:
        tried: Try = self.tries[place]
        files = tuple(dataclasses.replace(one, proof=judgement) if one.format == form else one for one in tried.files)
        self.tries[place] = dataclasses.replace(tried, files=files)
