"""Candidates below int8, from what hurts least to what saves most."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import keras

from tfcompress.graph.config_map import LayerConfigs
from tfcompress.pipeline.sensitivity import scanned_layers
from tfcompress.pruning import OneShot, PruneConfig
from tfcompress.quantization.quantize_config import QuantizeConfig, WeightSpec
from tfcompress.recipes import Prune, Quantize, Step
from tfcompress.search.allocator import Allocator
from tfcompress.search.candidates import Candidate, narrow
from tfcompress.search.choices import CHOICES, FLOAT, WIDE, Choice
from tfcompress.search.output_losses import NoScores
from tfcompress.search.tries import is_micro
from tfcompress.targets import Target

RUNGS = 30

BASE = QuantizeConfig(WeightSpec(range="mse"))
"""How layers are quantized but for the bits: few bits are worth most where they saturate."""

INTEGERS = tuple(one for one in CHOICES if one.bits not in (FLOAT, WIDE))
"""What layers may become: few bits, zeros among them, or a table of values."""


def choices_of(target: Target | None) -> tuple[Choice, ...]:
    """Return what layers may become for a target: what makes weights smaller there.

    TFLite Micro has tables, and stores zeros like other numbers. Vela compresses zeros and integers of few bits; of
    clusters beside a scale for each channel it sees many values.

    >>> from tfcompress import targets
    >>> [len(choices_of(targets.get(name))) for name in ("android", "microcontroller", "ethos-u55-128")] == [
    ...     len(INTEGERS), sum(not one.sparsity for one in INTEGERS), sum(not one.table for one in INTEGERS)]
    True
    """
    if target is not None and target.accelerator is not None:
        return tuple(one for one in INTEGERS if not one.table)
    return tuple(one for one in INTEGERS if not one.sparsity) if is_micro(target) else INTEGERS


def weighed_as(target: Target | None, formats: Sequence[str]) -> tuple[str, ...]:
    """Return the formats whose bytes rungs are weighed by.

    What makes weights smaller for TFLite Micro and for Vela, tables, few bits and zeros, is nearest to what stores them
    in a `.onnx` file with coded weights; the files that are tried have costs of their own.
    """
    accelerated = target is not None and target.accelerator is not None
    return ("onnx",) if accelerated or is_micro(target) else tuple(formats)


UNIFORM = (6, 5, 4, 3, 2)
"""Bits of all layers alike, where they can't be told apart."""

ENDS = 8
"""Bits of the first and the last layers then, which are small and hurt most."""

LEFT = 0.2
"""Of the expected rise of the loss by few bits, about what is left where weights are rounded by data: measured on
ResNet-8. Nothing makes up for zeros and for few values."""

SMALL = 1e-4
"""The first rung's share, at least, of the expected rise of the loss of the last."""


class Ladder(Sequence[Candidate]):
    """Allocations of what layers become: from rung to rung the loss is expected to rise by the same factor.

    Layers are scored when the first rung is asked for, and each rung is solved when it is asked for. Where they can't
    be scored, since the loss isn't known or the gradients aren't finite, all get the same width, and a warning says so.

    Args:
        model: the float model.
        inputs: samples to score the layers by.
        loss: of the model.
        formats: of the files whose bytes count.
        seed: of the scores.
        told: called with why all layers get the same width, where they do.
        choices: what layers may become.
    """

    def __init__(
        self,
        model: keras.Model,
        inputs: Any,
        loss: Any,
        formats: Sequence[str],
        seed: int = 0,
        *,
        told: Callable[[str], object] = str,
        choices: Sequence[Choice] = INTEGERS,
    ):
        self.choices = tuple(choices)
        self.told = told
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
            how: dict[str, Any] = {"config": BASE, "loss": self.loss, "seed": self.seed}
            try:
                self._allocator = Allocator(self.model, self.inputs, choices=self.choices, formats=self.formats, **how)
            except NoScores as error:
                remark = f"all layers get the same, since they can't be scored: {error}"
                warnings.warn(f"Below int8 {remark}", stacklevel=2)
                self.told(remark)
                self._alike = uniform(self.model)
            else:
                for name, each in self._allocator.scores.items():
                    self._allocator.scores[name] = rounded(each)
        if self._allocator is None:
            return self._alike[place * len(self._alike) // RUNGS]
        scores = self._allocator.scores.values()
        first, last = (sum(choose(each.values()) for each in scores) for choose in (min, max))
        first = max(first, SMALL * last)
        rise = first * (last / first) ** ((place + 1) / RUNGS) if last else 0.0
        found = self._allocator.allocate(max_rise=rise * (1 + 1e-9))
        configs = {} if found.quantize is None else {str(key): one for key, one in found.quantize.configs.items()}
        before = [_at_once(step) for step in found.steps if not isinstance(step, Quantize)]
        return narrow(f"{found.mean_bits:.2f} bits by layer", configs, before)


def rounded(scores: Mapping[Choice, float]) -> dict[Choice, float]:
    """Return what each choice is expected to add to the loss where weights are rounded by data.

    Args:
        scores: what each adds, rounded to the nearest.

    >>> rounded({Choice(4): 1.0, Choice(4, sparsity=0.5): 3.0, Choice(4, table=True): 2.0}).values()
    dict_values([0.2, 3.0, 2.0])
    """
    return {one: score if one.sparsity or one.table else LEFT * score for one, score in scores.items()}


def _at_once(step: Step) -> Step:
    """Return a step that prunes before anything is rounded; another as it is."""
    config = step.read(1) if isinstance(step, Prune) else None
    if not isinstance(config, LayerConfigs):
        return step
    return Prune(config=LayerConfigs({key: one and _once(one) for key, one in config.configs.items()}))


def _once(config: PruneConfig) -> PruneConfig:
    return dataclasses.replace(config, schedule=OneShot(config.schedule.final()))


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
