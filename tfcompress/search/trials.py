"""Runs what a search proposes, judges the files, and keeps every try, so that a search goes on where it was killed."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import math
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from tfcompress.core.atomic_files import save, write_text
from tfcompress.data.dataset import Dataset
from tfcompress.recipes.order import target_of
from tfcompress.recipes.recipe import Recipe
from tfcompress.recipes.runner import Run
from tfcompress.search.attempts import attempted
from tfcompress.search.candidates import MODEL, Candidate
from tfcompress.search.judge import Judge
from tfcompress.search.judgement import Judgement
from tfcompress.search.report import named
from tfcompress.search.tries import TriedFile, Try

STATE = "search.json"
"""In the folder of a search: its tries, what was proved in which order, and the seconds that it took."""


BEAT = 30.0
"""Seconds of a training between two notes of the time: a killed process loses no more."""


class OutOfTime(Exception):
    """The time that a search was given is over."""


class _Watch(keras.callbacks.Callback):
    """Ends a training when the time is over, and writes now and then how long it took until then."""

    def __init__(self, trials: Trials):
        super().__init__()
        self.trials = trials
        self.written = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.trials.check_time()
        if time.monotonic() - self.written > BEAT:
            self.trials.save()
            self.written = time.monotonic()


@dataclasses.dataclass
class Trials:
    """The tries of one search.

    Attributes:
        model: the float model.
        data: what is trained, and calibrated, with.
        judge: of the data that the search chooses by.
        proof_samples: how many samples will prove the end result.
        budget: the largest drop, in points of shares, else in the metric's own unit.
        minimize: of `tfcompress.search.candidates.MINIMIZE`.
        formats: of the files.
        folder: where everything lies.
        seed: of everything that is random.
        digest: of the model, the data and the settings: tries of others aren't taken.
        max_seconds: that the search may take, all calls together.
        target: what the files are for, as a recipe names it; `None`: not said.
        about: what a report says of the search, by name.
        begin: called with the name of a try before it begins.
        said: called with a try when it is done.
    """

    model: keras.Model
    data: Dataset
    judge: Judge
    proof_samples: int
    budget: float
    minimize: str
    formats: tuple[str, ...]
    folder: pathlib.Path
    seed: int
    digest: str
    max_seconds: float = math.inf
    target: str | None = None
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    begin: Callable[[str], object] = lambda name: None
    said: Callable[[Try], object] = lambda tried: None

    def __post_init__(self) -> None:
        self.tries: list[Try] = []
        self.proved: dict[str, dict[str, str]] = {}
        """{format: {key of a try: verdict}}, in the order in which files were proved, all calls together."""
        self._spent = 0.0
        """Seconds of earlier calls."""
        self._unfinished: dict[str, float] = {}
        """{key: seconds} of tries that were begun, in earlier calls, too."""
        self._trying: tuple[str, float] | None = None
        """Key of the try that is going on, and when it began."""
        self._started = time.monotonic()
        self._known = self._earlier()

    @property
    def deadline(self) -> float:
        """When the time is over, by `time.monotonic`."""
        return self._started + self.max_seconds - self._spent

    def check_time(self) -> None:
        """Raise OutOfTime if the time is over."""
        if time.monotonic() > self.deadline:
            raise OutOfTime

    def end(self) -> None:
        """End the tries: take those of earlier calls that this one hasn't come to, and write the seconds."""
        self.tries += self._later()
        self.save()

    def attempt(self, candidate: Candidate) -> Try:
        """Run a candidate, judge its files and keep it; one that was tried before is taken as it is.

        Raises:
            OutOfTime: the time is over.
        """
        recipe = candidate.recipe(self.formats, self.minimize, self.seed, self.target)
        steps = {name: value for name, value in recipe.to_dict().items() if name not in ("name", "when")}
        key = hashlib.sha256(json.dumps(steps, sort_keys=True).encode()).hexdigest()[:12]
        again = next((one for one in self.tries if one.key == key), None)
        if again is not None:
            return again
        if key in self._known:
            tried = self._known[key]
        else:
            self.check_time()
            self.begin(candidate.name)
            tried = self._tried(candidate, recipe, key)
        self.tries.append(tried)
        self.save()
        self.said(tried)
        return tried

    def promises(self, tried: Try, format: str, errors: float = -1.0) -> bool:
        """Return whether a file may well be shown to hold, by what the search chooses by (see `Judgement.promises`)."""
        file = tried.file(format)
        said = None if file is None else file.selection
        return said is not None and said.promises(self.budget, self.proof_samples, errors)

    def bound(self, judgement: Judgement) -> float:
        """Return the bound of the drop that the proof is expected to show."""
        return judgement.expected(self.proof_samples)

    def best(self, format: str) -> tuple[Try, TriedFile] | None:
        """Return the file of least cost that promises to hold."""
        found = [(one, file) for one in self.tries if self.promises(one, format) and (file := one.file(format))]
        return min(found, key=lambda each: each[1].cost(self.minimize), default=None)

    def replace(self, tried: Try) -> None:
        """Keep a try anew, with what was found about it since."""
        self.tries = [tried if one.key == tried.key else one for one in self.tries]
        self.save()

    def save(self) -> None:
        """Write all tries, and the seconds until now."""
        state = {
            "version": 1,
            "search": self.digest,
            "seconds": round(self._spent + time.monotonic() - self._started, 3),
            "unfinished": self._begun(),
            "proved": self.proved,
            "tries": [one.to_dict() for one in (*self.tries, *self._later())],
        }
        write_text(self.folder / STATE, json.dumps(state, indent=1) + "\n")

    def _begun(self) -> dict[str, float]:
        """Return the seconds of tries that aren't done, until now."""
        if self._trying is None:
            return self._unfinished
        key, begun = self._trying
        return {**self._unfinished, key: round(self._unfinished.get(key, 0.0) + time.monotonic() - begun, 3)}

    def _later(self) -> list[Try]:
        """Return tries of an earlier call which this one hasn't come to yet."""
        return [one for key, one in self._known.items() if all(key != done.key for done in self.tries)]

    def _earlier(self) -> dict[str, Try]:
        path = self.folder / STATE
        if not path.exists():
            return {}
        state = json.loads(path.read_text(encoding="utf-8"))
        if state.get("search") != self.digest:
            raise FileExistsError(
                f"Expected a folder of this very search, to go on with. Received: {self.folder}, where another model, "
                "other data or settings were searched with. Name another output_dir."
            )
        tries = [Try.from_dict(values) for values in state["tries"]]
        self._spent = state.get("seconds", sum(one.seconds for one in tries))
        self._unfinished = state.get("unfinished", {})
        self.proved = state.get("proved", {})
        return {one.key: one for one in tries if all(file.path.exists() for file in one.files)}

    def judged(self, recipe: Recipe, done: Run, judge: Judge, budget: float | None) -> Try:
        """Return a try of a recipe of one's own, whose files are judged at once on what proves them.

        Of several files of one format each has its name for a format.
        """
        begun = time.monotonic()
        count = collections.Counter(artifact.format for artifact in done.artifacts.values())
        files = []
        for name, artifact in done.artifacts.items():
            file = self._file(artifact.format if count[artifact.format] == 1 else name, artifact.path, None, recipe)
            files.append(dataclasses.replace(file, proof=judge(file.source, budget)))
        path = self.folder / MODEL
        if not path.exists():  # else the recipe exports it
            save(done.model, path)
        outcome = "; ".join(f"{file.format} {file.proof.verdict}" for file in files if file.proof is not None)
        seconds = round(time.monotonic() - begun, 1)
        return Try(recipe.name, recipe.to_dict(), tuple(files), seconds, outcome, model=path)

    def _tried(self, candidate: Candidate, recipe: Recipe, key: str) -> Try:
        self._trying = key, time.monotonic()
        folder = self.folder / "tries" / f"{recipe.name}-{key}"
        folder.mkdir(parents=True, exist_ok=True)

        def judged(recipe: Recipe, done: Run) -> list[TriedFile]:
            paths = {form: done.artifacts[f"model.{form}"].path for form in self.formats}
            return [self._file(form, path, self.judge, recipe) for form, path in paths.items()]

        how: dict[str, Any] = {"folder": folder, "stage": self._stage}
        try:
            files, outcome = attempted(lambda: recipe, self.model, self.data, judged, **how)
        finally:
            self._unfinished, self._trying = self._begun(), None
        seconds = round(self._unfinished.pop(key), 1)
        made = Try(candidate.name, recipe.to_dict(), files, seconds, outcome, key, folder / MODEL)
        return dataclasses.replace(made, outcome=outcome or self._outcome(made))

    def _file(self, name: str, path: pathlib.Path, judge: Judge | None, recipe: Recipe) -> TriedFile:
        target = target_of(recipe.steps, path.name)
        inputs = self.judge.x if self.minimize == "latency" else None
        if judge is None:  # nothing is chosen, which Vela would be asked for
            return TriedFile.measured(name, path, None, inputs, target, estimated=False)
        made = TriedFile.measured(name, path, None, inputs, target)
        return dataclasses.replace(made, selection=judge(made.source, self.budget, early=True))

    def _outcome(self, tried: Try) -> str:
        """Return in words whether files promise to hold: once, if all do."""
        said = {
            file.format: "promises to hold" if self.promises(tried, file.format) else "loses too much"
            for file in tried.files
        }
        return (
            next(iter(said.values()))
            if len(set(said.values())) == 1
            else ", ".join(f"{named(a)} {b}" for a, b in said.items())
        )

    @contextlib.contextmanager
    def _stage(self, text: str, epochs: int = 0) -> Iterator[Sequence[keras.callbacks.Callback]]:
        self.save()
        yield (_Watch(self),) if epochs else ()
