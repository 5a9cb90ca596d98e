"""What a campaign counts, and how it ends."""

from __future__ import annotations

import collections
import sys


class Counts:
    """Counts outcomes, and keeps those that should not be.

    Args:
        name: Of the campaign.
        good: The outcomes that may be.
    """

    def __init__(self, name: str, good: tuple[str, ...]):
        self.name, self.good = name, good
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.bad: list[str] = []

    def add(self, what: str, outcome: str, detail: str = "") -> None:
        """Count one trial."""
        self.outcomes[outcome] += 1
        if outcome not in self.good:
            self.bad.append(f"{what}: {outcome}. {detail}")

    def __str__(self) -> str:
        """Return all counts, and each trial that should have ended otherwise."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common())
        return "\n  ".join([f"{self.name}: {sum(self.outcomes.values())} tried: {counts}", *self.bad])

    def end(self) -> None:
        """Print the counts and end the process, with 1 if anything should have been otherwise."""
        print(self)
        sys.exit(1 if self.bad else 0)
