"""Candidates below int8, from what hurts least to what saves most."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, overload

import keras

from tfcompress.pipeline.sensitivity import scanned_layers
from tfcompress.quantization.quantize_config import QuantizeConfig, WeightSpec
from tfcompress.search.allocator import Allocator
from tfcompress.search.candidates import Candidate, narrow

RUNGS = 10
WIDTHS = (8, 4, 3, 2)
"""Bits that layers may have."""

UNIFORM = (6, 5, 4, 3, 2)
"""Bits of all layers alike, where they can't be told apart."""

ENDS = 8
"""Bits of the first and the last layers then, which are small and hurt most."""

SMALL = 1e-4
"""The first rung's share, at least, of the expected rise of the loss of the last."""


class Ladder(Sequence[Candidate]):
    """Allocations of widths to layers: from rung to rung the loss is expected to rise by the same factor.

    Layers are scored when the first rung is asked for, and each rung is solved when it is asked for. Where they can't
    be scored all get the same width.

    Args:
        model: the float model.
        inputs: samples to score the layers by.
        loss: of the model.
        formats: of the files whose bytes count.
        seed: of the scores.
    """

    def __init__(self, model: keras.Model, inputs: Any, loss: Any, formats: Sequence[str], seed: int = 0):
        self.model, self.inputs, self.loss, self.formats, self.seed = model, inputs, loss, tuple(formats), seed
        self._allocator: Allocator | None = None
        self._alike: tuple[Candidate, ...] = ()
        self._made: dict[int, Candidate] = {}

    def __len__(self) -> int:
        return RUNGS

    @overload
    def __getitem__(self, place: int) -> Candidate: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Candidate]: ...

    def __getitem__(self, place: int | slice) -> Candidate | Sequence[Candidate]:
        """Return a rung, from 0: what is expected to lose least."""
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(RUNGS))]
        if not 0 <= place < RUNGS:
            raise IndexError(place)
        if place not in self._made:
            self._made[place] = self._rung(place)
        return self._made[place]

    def _rung(self, place: int) -> Candidate:
        if self._allocator is None and not self._alike:
            names = [f"int{bits}" for bits in WIDTHS]
            how: dict[str, Any] = {"loss": self.loss, "seed": self.seed}
            try:
                self._allocator = Allocator(self.model, self.inputs, choices=names, formats=self.formats, **how)
            except ValueError:  # a loss that isn't known, layers that have no gradient
                self._alike = uniform(self.model)
        if self._allocator is None:
            return self._alike[place * len(self._alike) // RUNGS]
        scores = self._allocator.scores.values()
        first, last = (sum(choose(each.values()) for each in scores) for choose in (min, max))
        first = max(first, SMALL * last)
        rise = first * (last / first) ** ((place + 1) / RUNGS) if last else 0.0
        found = self._allocator.allocate(max_rise=rise * (1 + 1e-9))
        configs = {} if found.quantize is None else {str(key): one for key, one in found.quantize.configs.items()}
        return narrow(f"{found.mean_bits:.2f} bits by layer", configs)


def uniform(model: keras.Model) -> tuple[Candidate, ...]:
    """Return candidates of fewer and fewer bits for all layers; between two widths the largest kernel goes first.

    >>> layers = [keras.layers.Dense(8, name=name) for name in "abc"]
    >>> [one.name for one in uniform(keras.Sequential([keras.Input((8,)), *layers]))][4:7]
    ['4 bits in a', '4 bits', '3 bits in a']
    """
    sizes = scanned_layers(model)
    largest = max(sizes, key=lambda name: sizes[name])
    made = []
    wider = _of(8)
    for bits in UNIFORM:
        config = _of(bits)
        if len(sizes) > 1:
            layers = {re.escape(largest): config, ".*": wider}
            made.append(narrow(f"{bits} bits in {largest}", layers))
        made.append(narrow(f"{bits} bits", {".*": config}))
        wider = config
    return tuple(made)


def _of(bits: int) -> QuantizeConfig:
    return dataclasses.replace(QuantizeConfig(WeightSpec(bits=bits)), first_and_last_bits=ENDS if bits < ENDS else None)
