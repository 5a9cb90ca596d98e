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
        length: frames of the tensor in the whole model; `None`: any number.
        window: frames of the inputs that it is made of, in the whole model; `None`: any number, or they differ.
        endless: whether it is made of all frames since the stream began, by a recurrent layer.
        other_end: whether its last frame in the whole model isn't made of the input's last: zeros were put behind, or
            frames cut off there.

    >>> Timeline(4).windows(3, 1).warm_up, Timeline(4).after_zeros(2).windows(3, 1).warm_up
    (2, 0)
    """

    frames: int
    delay: int = 0
    warm_up: int = 0
    zeros: int = 0
    padded: bool = False
    length: int | None = None
    window: int | None = None
    endless: bool = False
    other_end: bool = False

    def after_zeros(self, before: int, behind: int = 0) -> Timeline:
        """Return where frames lie with zeros before the first and behind the last."""
        if not before and not behind:
            return self
        known = before if not self.warm_up and not self.delay else 0
        length = None if self.length is None else self.length + before + behind
        return dataclasses.replace(
            self,
            delay=self.delay - before,
            zeros=known,
            padded=True,
            length=length,
            other_end=self.other_end or behind > 0,
        )

    def cropped(self, before: int, behind: int = 0) -> Timeline:
        """Return where frames lie without the first and the last ones."""
        delay = self.delay + before
        length = None if self.length is None else self.length - before - behind
        other_end = self.other_end or behind > 0
        warm_up = max(self.warm_up, delay)
        return dataclasses.replace(self, delay=delay, warm_up=warm_up, zeros=0, length=length, other_end=other_end)

    def kept(self, extent: int, stride: int) -> int:
        """Return how many frames of the steps before are needed: a window of the first ones begins with them.

        Args:
            extent: frames from the first to the last that a window reads.
            stride: frames from window to window.
        """
        least = max(extent - stride, 0)
        return least + (-self.delay - least) % stride

    def windows(self, extent: int, stride: int) -> Timeline:
        """Return where what is made of windows of frames lies."""
        kept = self.kept(extent, stride)
        missing = kept - self.zeros if not self.warm_up else kept
        warm_up = max(math.ceil((self.warm_up + missing) / stride), 0)
        return dataclasses.replace(
            self,
            frames=self.frames // stride,
            delay=(kept + self.delay) // stride,
            warm_up=warm_up,
            zeros=0,
            length=None if self.length is None else (self.length - extent) // stride + 1,
        )

    def later(self, delay: int) -> Timeline:
        """Return where frames lie that are held back to have a larger delay."""
        more = delay - self.delay
        return dataclasses.replace(self, delay=delay, warm_up=self.warm_up + more, zeros=0) if more else self

    @property
    def changed(self) -> Timeline:
        """The same, where zeros don't stay zeros."""
        return dataclasses.replace(self, zeros=0)
