"""The order in which compressions are tried: down where the budget holds, to first aid and wider layers where not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from tfcompress.search import candidates
from tfcompress.search.candidates import WIDER, Candidate, suits
from tfcompress.search.layer_damage import damages
from tfcompress.search.trials import Trials
from tfcompress.search.tries import Try
from tfcompress.targets import Target

CHANNELS = (0.125, 0.25, 0.375, 0.5)
"""Shares of channels that are removed to save time, or memory to work in."""


STRIDE = 2
"""Rungs between two candidates that are trained, until one doesn't hold: each takes many times as long as without."""


SAFER = (2, 5)
"""How far above the last rung that promises to hold others are tried, where that one may well not be shown to."""


@dataclasses.dataclass(frozen=True)
class Dose:
    """How candidates are trained.

    Attributes:
        epochs: of a training; a second one of the same candidate has three times as many.
        batch_size: samples per step.
        learning_rate: at the beginning.
        taught: whether on what the float model says of classes, too.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 5e-4
    taught: bool = True

    def of(self, candidate: Candidate, times: int = 1) -> Candidate:
        """Return a candidate with training."""
        return candidate.trained(times * self.epochs, self.batch_size, self.learning_rate, self.taught)


class Staircase:
    """Climbs until nothing smaller promises to hold.

    Args:
        trials: what runs and judges candidates.
        dose: how they are trained; `None`: they aren't.
        inputs: samples to calibrate with, by which layers are compared.
        ladder: candidates below int8, from what hurts least to what saves most.
        target: what the files are for, which leaves out what it can't do; `None`: not said.
    """

    def __init__(
        self,
        trials: Trials,
        dose: Dose | None,
        inputs: Any,
        ladder: Sequence[Candidate],
        target: Target | None = None,
    ):
        self.target = target
        self.trials, self.inputs, self.ladder = trials, inputs, ladder
        self.dose = dose and dataclasses.replace(dose, taught=trials.data.is_classes)
        self.wider: dict[Any, Any] = {}

    def climb(self) -> None:
        """Try until it is done; what was found is in the trials, also if this is interrupted."""
        for candidate in (candidates.float16(), candidates.plain()):  # what there is to fall back on
            if suits(candidate, self.target):
                self.trials.attempt(candidate)
                break
        if not self._holds(candidates.int8()):
            self._rescue()
        if all(self.trials.best(form) for form in self.trials.formats):
            self._descend()

    def _holds(self, candidate: Candidate) -> bool:
        """Try a candidate; return whether its files of all formats promise to hold: not what the target can't do."""
        if not suits(candidate, self.target):
            return False
        tried = self.trials.attempt(candidate)
        return all(self.trials.promises(tried, form) for form in self.trials.formats)

    def _rescue(self) -> None:
        """Bring integers within the budget: first aid, then wider layers, then training."""
        for candidate in candidates.first_aid():
            if self._holds(candidate):
                return
        for kind in WIDER:
            if not suits(candidates.mixed(["any"], kind), self.target):
                continue
            fewest = self._fewest(kind)
            if fewest and not self.wider:
                self.wider = candidates.widened(fewest, kind)
        if not self.wider and not self._holds(candidates.wide()) and self.dose is not None:
            best = self._nearest(one for one in self.trials.tries if one.name.startswith("int8"))
            if best is not None and not self._holds(self.dose.of(best)):
                self._holds(self.dose.of(best, 3))

    def _fewest(self, kind: str) -> list[str]:
        """Return the fewest layers which, wider than int8, let it promise to hold; none if that doesn't help.

        Numbers are doubled until it does, then halved between the last two.
        """
        worst = list(self._damages)
        low, high = 0, 1
        while not self._holds(candidates.mixed(worst[:high], kind)):
            if high >= len(worst) - 1:
                return []
            low, high = high, min(2 * high, len(worst) - 1)
        while high - low > 1:
            middle = (low + high) // 2
            if self._holds(candidates.mixed(worst[:middle], kind)):
                high = middle
            else:
                low = middle
        return worst[:high]

    @property
    def _damages(self) -> dict[str, float]:
        if not hasattr(self, "_found"):
            self.trials.check_time()
            self.trials.begin("which layers hurt")
            self._found = damages(self.trials.model, self.inputs)
        return self._found

    def _nearest(self, tries: Any) -> Candidate | None:
        """Return the candidate of the try that is nearest to the budget."""
        known = {one.name: one for one in (candidates.int8(), *candidates.first_aid())}
        judged = [(self._worst(one), known[one.name]) for one in tries if one.name in known and one.files]
        return min(judged, key=lambda each: each[0], default=(0.0, None))[1]

    def _worst(self, tried: Try) -> float:
        return max(math.inf if file.selection is None else self.trials.bound(file.selection) for file in tried.files)

    def _descend(self) -> None:
        """Go down to what costs less: to fewer weights, to fewer channels, or to both."""
        accelerated = self.target is not None and self.target.accelerator is not None
        if self.trials.minimize in ("size", "zip") or (self.trials.minimize == "latency" and accelerated):
            self._narrower()  # an NPU waits for its weights
        if self.trials.minimize in ("latency", "arena"):
            self._faster()

    def _narrower(self) -> None:
        """Go down the ladder: halving without training, then with it, step by step, as long as that holds."""
        low, high = -1, len(self.ladder)
        while high - low > 1:
            middle = (low + high) // 2
            if self._holds(self._rung(middle)):
                low = middle
            else:
                high = middle
        if self.dose is None:
            if not all(map(self.trials.proved.get, self.trials.formats)):  # else nothing larger is proved any more
                self._fall_back(low)
            return
        high = len(self.ladder)
        for stride in range(STRIDE, 0, -1):
            while low + stride < high and self._holds(self.dose.of(self._rung(low + stride))):
                low += stride
            high = min(high, low + stride)

    def _fall_back(self, low: int) -> None:
        """Try rungs that are near to the last that promises to hold: one is shipped if that isn't shown to."""
        for rung in (low, *(low - distance for distance in SAFER)):
            if rung < 0:
                return
            if not suits(candidate := self._rung(rung), self.target):
                continue
            tried = self.trials.attempt(candidate)
            if all(self.trials.promises(tried, form, 1.0) for form in self.trials.formats):
                return

    def _rung(self, place: int) -> Candidate:
        self.trials.check_time()  # the first rung scores all layers
        return candidates.keeping(self.ladder[place], self.wider)

    def _faster(self) -> None:
        how = {} if self.dose is None else dataclasses.asdict(self.dose)
        for share in CHANNELS if how else ():
            if not self._holds(candidates.fewer_channels(share, **how)):
                return
