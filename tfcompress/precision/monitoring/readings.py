"""From readings of single batches to rows, and to warnings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from tfcompress.precision.monitoring.training_probe import INPUT, LayerReading, Reading
from tfcompress.precision.monitoring.training_report import LARGEST, MonitorRow
from tfcompress.precision.policies import HALVES

NEAR = 0.5
"""Share of the range from which on an activation is near its end: the next doubling is beyond."""

UNDERFLOW = 0.1
"""Share of a layer's gradients from which on it matters that they are lost."""


@dataclasses.dataclass
class _Sums:
    reading: LayerReading
    largest: float | None = None
    nonfinite: bool = False
    underflow: list[float] = dataclasses.field(default_factory=list)
    overflow: list[float] = dataclasses.field(default_factory=list)
    skipped: int = 0


class Collection:
    """Adds readings up.

    Attributes:
        batches: How many readings of steps that weren't skipped there are.
        looked_into: How many of skipped steps.
        diverged: Whether the loss of the last reading isn't finite in float32 either.
    """

    def __init__(self) -> None:
        self.batches = 0
        self.looked_into = 0
        self.diverged = False
        self._sums: dict[str, _Sums] = {}
        self._said: set[str] = set()

    def add(self, reading: Reading, skipped: bool) -> None:
        """Add a reading.

        Args:
            reading: Of one batch.
            skipped: Whether it is that of a skipped step, which says where its overflow arose and nothing of others.
        """
        self.batches += not skipped
        self.looked_into += skipped
        if reading.diverged is not None:
            self.diverged = reading.diverged
        for layer in reading.layers:
            sums = self._sums.setdefault(layer.layer, _Sums(layer))
            if layer.largest is not None:
                sums.largest = max(layer.largest, sums.largest or 0.0)
            sums.nonfinite = sums.nonfinite or layer.nonfinite > 0
            if skipped:
                continue
            if layer.overflow is not None:
                sums.overflow.append(layer.overflow)
            if layer.underflow is not None and not layer.overflow:
                sums.underflow.append(layer.underflow)
        source = origin(reading.layers)
        if skipped and source is not None:
            self._sums[source].skipped += 1

    def rows(self) -> tuple[MonitorRow, ...]:
        """Return a row for each layer."""
        return tuple(
            MonitorRow(
                name,
                sums.reading.policy,
                sums.reading.dtype,
                sums.largest,
                sums.nonfinite,
                _mean(sums.underflow),
                _mean(sums.overflow),
                sums.skipped,
                name in self._said,
            )
            for name, sums in self._sums.items()
        )

    def warnings(self, reading: Reading, step: int, dynamic: bool) -> Iterator[str]:
        """Yield what a reading gives reason to say and wasn't said before, once for each layer.

        Args:
            reading: Of one batch.
            step: Training steps before it.
            dynamic: Whether loss scaling skips steps whose gradients overflow; it does its work above a scale of 1.
        """
        first = next((layer for layer in reading.layers if layer.nonfinite), None)
        if first is not None:
            if self._is_new(first):
                yield _beyond(first, step, reading.diverged, dynamic)
            return  # what comes after it has it from there
        near = [layer for layer in reading.layers if _share_of_range(layer) > NEAR and self._is_new(layer)]
        if near:
            yield (
                f"Activations are near the end of the range of half precision at step {step}: "
                + _list([f"{layer.layer!r} reaches {layer.largest:,.0f}" for layer in near])
                + f" of {LARGEST[near[0].dtype]:,.6g}. {_keep(near)}, or make their inputs smaller, before they "
                "become infinite."
            )
        source = origin(reading.layers)
        if source is not None:
            layer = next(layer for layer in reading.layers if layer.layer == source)
            if (not dynamic or reading.scale <= 1) and self._is_new(layer):
                yield (
                    f"Gradients of layer {layer.layer!r} ({layer.policy}) overflow at step {step} at a loss scale of "
                    f"{reading.scale:,.6g}: {layer.overflow:.1%} are infinite or NaN, and a lower scale won't help. "
                    f"{_keep([layer])}, lower the learning rate, or normalize its inputs."
                )
            return
        lost = [layer for layer in reading.layers if (layer.underflow or 0.0) > UNDERFLOW and self._is_new(layer)]
        if lost:
            yield (
                f"Gradients underflow in half precision at step {step} at a loss scale of {reading.scale:,.6g}: "
                + _list([f"{layer.underflow:.1%} of layer {layer.layer!r}" for layer in lost])
                + " are 0, and not in float32. Raise the loss scale (initial_scale of a "
                f"keras.optimizers.LossScaleOptimizer), or {_keep(lost, 'keep')}."
            )

    def _is_new(self, layer: LayerReading) -> bool:
        new = layer.layer not in self._said
        self._said.add(layer.layer)
        return new


def origin(layers: Sequence[LayerReading]) -> str | None:
    """Return the layer in which an overflow arises; `None`: there is none.

    Forward that is the first with a value that isn't finite; if all are finite, the first on the way back from the
    loss whose gradients aren't.

    >>> layers = [LayerReading("a", "", overflow=1.0), LayerReading("b", "", overflow=0.5), LayerReading("c", "")]
    >>> origin(layers)
    'b'
    """
    for layer in layers:
        if layer.nonfinite:
            return layer.layer
    return next((layer.layer for layer in reversed(layers) if layer.overflow), None)


def _share_of_range(layer: LayerReading) -> float:
    if layer.dtype not in HALVES or layer.largest is None:
        return 0.0
    return layer.largest / LARGEST[layer.dtype]


def _beyond(layer: LayerReading, step: int, diverged: bool | None, dynamic: bool) -> str:
    where = f"Activations of layer {layer.layer!r} ({layer.policy}) are infinite or NaN at step {step}"
    if diverged or layer.dtype not in HALVES:
        scaling = "" if dynamic else " A keras.optimizers.LossScaleOptimizer skips steps whose gradients overflow."
        return (
            f"{where}, the first layer at which they are, and the loss isn't finite in float32 either: the weights or "
            f"the data hold such values. Look at the data, and lower the learning rate.{scaling}"
        )
    return (
        f"{where}, the first layer at which they are: the largest number of {layer.dtype} is "
        f"{LARGEST[layer.dtype]:,.6g}. {_keep([layer])}, make its inputs smaller, or lower the learning rate."
    )


def _keep(layers: Sequence[LayerReading], verb: str = "Keep") -> str:
    names = [layer.layer for layer in layers if not layer.layer.startswith(INPUT)]
    if not names:
        return f"{'Scale' if verb[0].isupper() else 'scale'} the data, such as with keras.layers.Normalization"
    shown = ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
    them = "it" if len(names) == 1 else "them"
    return f"{verb} {them} in float32, tfc.mixed_precision(model, keep_float32=[{shown}])"


def _list(items: Sequence[str]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more layers" if len(items) > 5 else "")


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
