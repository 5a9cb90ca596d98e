"""Where the frames of a stream lie beside those of the whole model."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Timeline:
    """How the frames of a tensor come in a stream.

    Attributes:
        frames: of the tensor in each step.
        delay: frame `i` of the stream is frame `i - delay` of the whole model.
        warm_up: so many frames at the beginning of the stream aren't those of the whole model.
        zeros: so many frames before the stream begins are zeros in the whole model, by padding.
        padded: whether zeros were put before or behind what it is made of.

    >>> Timeline(4).window(3, 1).warm_up, Timeline(4).after_zeros(2).window(3, 1).warm_up
    (2, 0)
    """

    frames: int
    delay: int = 0
    warm_up: int = 0
    zeros: int = 0
    padded: bool = False

    def after_zeros(self, before: int, behind: int = 0) -> Timeline:
        """Return where frames lie with zeros before the first and behind the last."""
        if not before and not behind:
            return self
        known = before if not self.warm_up and not self.delay else 0
        return dataclasses.replace(self, delay=self.delay - before, zeros=known, padded=True)

    def cropped(self, before: int) -> Timeline:
        """Return where frames lie without the first ones."""
        delay = self.delay + before
        return dataclasses.replace(self, delay=delay, warm_up=max(self.warm_up, delay), zeros=0)

    def kept(self, extent: int, stride: int) -> int:
        """Return how many frames of the steps before are needed: a window of the first ones begins with them.

        Args:
            extent: frames from the first to the last that a window reads.
            stride: frames from window to window.
        """
        least = max(extent - stride, 0)
        return least + (-self.delay - least) % stride

    def window(self, extent: int, stride: int) -> Timeline:
        """Return where what is made of windows of frames lies."""
        kept = self.kept(extent, stride)
        missing = kept - self.zeros if not self.warm_up else kept
        warm_up = max(math.ceil((self.warm_up + missing) / stride), 0)
        return Timeline(self.frames // stride, (kept + self.delay) // stride, warm_up, 0, self.padded)

    def later(self, delay: int) -> Timeline:
        """Return where frames lie that are held back to have a larger delay."""
        more = delay - self.delay
        return dataclasses.replace(self, delay=delay, warm_up=self.warm_up + more, zeros=0) if more else self

    @property
    def changed(self) -> Timeline:
        """The same, where zeros don't stay zeros."""
        return dataclasses.replace(self, zeros=0)
