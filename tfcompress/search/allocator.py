"""Which layer gets what: scored once, solved for each budget, checked with real files."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfcompress.core.arguments import check_choice, check_count, check_number
from tfcompress.core.integer_programme import SECONDS, Solution, TooTight, solve
from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.replicas import place_of
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.data.model_batches import again, check_batch_size
from tfcompress.export import export
from tfcompress.graph import LayerChoice, check_built, rebuild
from tfcompress.graph.keras_quantized import check_floats
from tfcompress.graph.selectors import Layers
from tfcompress.graph.strip import stripped
from tfcompress.pruning.mask import Mask
from tfcompress.quantization.preconditions import check_finite
from tfcompress.quantization.quantize import is_quantized, quantize
from tfcompress.quantization.weights.codebook import Codebook
from tfcompress.search.activation_scores import activation_scores
from tfcompress.search.allocation import Allocation, LayerAllocation
from tfcompress.search.changed_kernels import units_of
from tfcompress.search.choices import FLOAT, WIDE, Choice, base_config, check_format, choices_for
from tfcompress.search.file_costs import EXPORT, Costs, file_costs, measured
from tfcompress.search.latency_costs import Latencies, latency_costs
from tfcompress.search.scores import SAMPLES, scores
from tfcompress.search.sizes import check_size, in_words

FORMATS = ("tflite", "onnx")
MORE = (FLOAT, WIDE)
"""Bits of choices whose activations are as good as float."""

WORTH = 1e-3
"""Of the expected rise of the loss: what a layer has to save to leave the integer kernels of 8 bits for activations of
16 bits, which are slower in TFLite and float in ONNX Runtime, or for floats."""

MOST_FILES = 6
"""Of each format, that are written until what the programme counts and what files take agree."""

GAIN = 0.01
"""Of the expected rise of the loss: by how much less another file has to promise to be written, beside one that keeps
within the size."""


class Allocator:
    """Finds what each layer of a model gets, for any number of budgets: data is gone through once.

    Args:
        model: A built Keras model of any kind that isn't quantized; it is not changed.
        data: A few hundred inputs, as `tfcompress.quantize` takes them. The loss is that of a model which says on
            these what `model` says, so there are no labels.
        config: How layers are quantized but for the bits: "int8", or weights alone: "int8_weights".
        choices: What a layer may become, such as ["float", "int8", "int4"]; `None`: all of
            `tfcompress.search.CHOICES` that the config has room for.
        layers: Which layers, as in `tfcompress.quantize`; the others stay float.
        formats: "tflite", "onnx" or both: what a size holds for.
        loss: As for `compile`, which says what outputs are where that isn't seen: logits of classes end in no
            softmax; `None`: the one that `model` is compiled with.
        samples: How many inputs are looked at.
        batch_size: Samples in a batch for calibration.
        seed: Of the targets that are drawn.
        applied: What the model of a file is quantized with besides, as `equalize` and `correct_bias`.

    Attributes:
        scores: {layer: {choice: the expected rise of the loss}}.
        costs: {format: {layer: {choice: bytes of the file}}}.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it isn't built, is quantized, or an argument is out of its range.
    """

    def __init__(
        self,
        model: keras.Model,
        data: Any,
        *,
        config: Any = "int8",
        choices: Any = None,
        layers: Layers = None,
        formats: str | Sequence[str] = FORMATS,
        loss: Any = None,
        samples: int = SAMPLES,
        batch_size: int = 32,
        seed: int = 0,
        applied: Mapping[str, Any] | None = None,
    ):
        self.formats = check_format(formats)
        self.base = base_config(config)
        self.choices = choices_for(choices, self.base)
        check_count("samples", samples)
        check_batch_size(batch_size)
        chosen = LayerChoice(layers)
        check_built(model)
        check_floats(model, "Allocate")
        if is_quantized(model):
            raise ValueError(
                f"Expected a model that isn't quantized. Received: {model.name!r}, which is. Take the one that it was "
                "made of."
            )
        self.choices = _left(self.choices, model)
        if data is None:
            raise ValueError("Expected data, inputs on which the layers are scored. Received: None.")
        self.model, self.data = model, again(data)
        self._applied = {"batch_size": batch_size, **(applied or {})}
        loss = getattr(model, "loss", None) if loss is None else loss
        with place_of(model):
            flat = rebuild(model)
            plain = stripped(model)  # masks and centres aren't in a file
            check_finite(flat.layers)
            self.units = units_of(flat, chosen)
            how: dict[str, Any] = {"loss": loss, "samples": samples, "seed": seed}
            self.scores, stored = scores(flat, self.units, self.choices, self.base, self.data, **how)
            self._add_activations(layers, batch_size, how)
        self.costs: dict[str, Costs] = {kind: file_costs(kind, self.units, stored, self.base) for kind in self.formats}
        self._rest: dict[str, float] = {}
        self._flat = flat
        self._latencies: Latencies | None = None
        others = sum(math.prod(weight.shape) for weight in plain.weights) - sum(unit.size for unit in self.units)
        self._rest_guess = 4.0 * others

    def _add_activations(self, layers: Layers, batch_size: int, how: Mapping[str, Any]) -> None:
        """Let the scores say what 8 bits of activations add, where some choices have more."""
        activations = self.base.activations
        if activations is None or activations.dynamic or not any(one.bits in MORE for one in self.choices):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the model that is returned is made with them
            quantized = quantize(self.model, self.base, self.data, layers, batch_size=batch_size)
        added = activation_scores(quantized, self._layers_of(quantized), self.data, **how)
        for name, rise in added.items():
            for choice in self.choices:
                if choice.bits not in MORE:
                    self.scores[name][choice] += rise

    def latencies(self) -> Latencies:
        """Return the milliseconds of each choice for each layer, in the runtime of the first format; timed once."""
        if self._latencies is None:
            kind = self.formats[0]
            how: dict[str, Any] = {"choices": self.choices, "base": self.base, "data": self.data}
            self._latencies = latency_costs(kind, self._flat, self.units, **how)
        return self._latencies

    def allocate(
        self, *, size: int | str | None = None, max_rise: float | None = None, minimize: str = "size"
    ) -> Allocation:
        """Return what each layer gets.

        Args:
            size: Of a file of each format, at most, as `tfc.export` writes it with `tfcompress.search.EXPORT`: a number
                of bytes, or "200kB". The expected rise of the loss is the least that there is with it; a file was
                written of what is returned, which is no larger.
            max_rise: The expected rise of the loss, at most, in place of a size: the files are the smallest then, by
                bytes that are counted and, as for a size, corrected by up to six files of each format.
            minimize: With `max_rise`: "size"; or "latency": the sum of the medians of all layers, each timed by itself
                in the runtime of the first format. Timing takes a while, and a machine that does nothing else.

        Raises:
            ValueError: If none or both are given, one is out of its range, or no file is so small: the message says
                what the smallest takes.
        """
        check_choice("minimize", minimize, ("size", "latency"))
        if minimize == "latency" and max_rise is None:
            raise ValueError("Expected max_rise= with minimize='latency'. Received: none. Say what may be lost for it.")
        if (size is None) == (max_rise is None):
            raise ValueError(f"Expected size= or max_rise=. Received: size={size!r}, max_rise={max_rise!r}.")
        if max_rise is not None:
            return self._with_rise(check_number("max_rise", max_rise, 0), minimize)
        limit = check_size(size)
        best: tuple[float, Allocation] | None = None
        seen: dict[tuple[int, ...], Allocation] = {}
        seconds = SECONDS
        for _ in range(MOST_FILES):
            try:
                found = self._solve(limit, seconds / 2)
            except TooTight:  # by what is known of the rest of a file: the smallest one shows what that takes
                found = self._least()
            seconds = max(seconds - found.seconds, 1.0)
            if found.places in seen:
                if best is not None and best[1] is seen[found.places]:
                    best = best[0], dataclasses.replace(best[1], gap=found.gap)
                break
            value = sum(row[at] for row, at in zip(self._wanted(), found.places, strict=True))
            if best is not None and value > (1 - GAIN) * best[0]:
                gap = max(0.0, 1 - value * (1 - found.gap) / max(best[0], 1e-30))
                best = best[0], dataclasses.replace(best[1], gap=gap)
                break
            made = seen[found.places] = self._measured(found, limit)
            if max(made.nbytes.values()) <= limit and (best is None or value < best[0]):
                best = value, made
        return best[1] if best is not None else self._smallest(limit)

    def _with_rise(self, most: float, minimize: str) -> Allocation:
        made: list[Allocation] = []
        seen: set[tuple[int, ...]] = set()
        for _ in range(MOST_FILES if minimize == "size" else 1):
            found = self._solve_with_rise(most, minimize)
            if found.places in seen:
                break
            seen.add(found.places)
            made.append(self._measured(found, None))
        return min(made, key=lambda one: (sum(one.nbytes.values()), one.score))

    def _solve_with_rise(self, most: float, minimize: str) -> Solution:
        costs: Sequence[Mapping[str, Mapping[Choice, float]]] = [self.costs[kind] for kind in self.formats]
        if minimize == "latency":
            costs = [self.latencies()]
        objective = [[sum(one[unit.name][choice] for one in costs) for choice in self.choices] for unit in self.units]
        try:
            return solve(objective, [(self._scores(), most)])
        except TooTight as error:
            raise ValueError(
                f"Expected max_rise of at least {error.least[0]:.4g}, with the choices that there are. Received: "
                f"max_rise={most:g}. Let layers stay float."
            ) from None

    def _smallest(self, limit: int) -> Allocation:
        """Return the smallest files, if they keep within a limit; raise ValueError if they don't."""
        made = self._measured(self._least(), limit)
        largest = max(made.nbytes, key=lambda kind: made.nbytes[kind])
        if made.nbytes[largest] <= limit:
            return made
        raise ValueError(
            f"Expected a size of at least {made.nbytes[largest]:,} bytes, which the smallest .{largest} file of the "
            f"choices takes. Received: {limit:,} bytes ({in_words(limit)}). Allow more choices, prune channels "
            "(tfcompress.shrink), or take a smaller model."
        )

    def _least(self) -> Solution:
        """Return the choices of the fewest bytes; of their scores nothing is proven."""
        sizes = [
            [sum(self.costs[kind][unit.name][one] for kind in self.formats) for one in self.choices]
            for unit in self.units
        ]
        return dataclasses.replace(solve(sizes, []), gap=1.0)

    def _wanted(self) -> list[list[float]]:
        """Return what is to be small with a size."""
        activations = self.base.activations
        integer = activations is not None and not activations.dynamic
        return self._scores(WORTH if integer else 0.0)

    def _scores(self, worth: float = 0.0) -> list[list[float]]:
        """Return the scores, those of choices without 8 bits of activations higher by what these are worth."""
        added = {choice: worth * (choice.bits in MORE) for choice in self.choices}
        return [[self.scores[unit.name][choice] + added[choice] for choice in self.choices] for unit in self.units]

    def _solve(self, limit: int, seconds: float) -> Solution:
        limits = [
            (
                [[self.costs[kind][unit.name][choice] for choice in self.choices] for unit in self.units],
                limit - self._rest.get(kind, self._rest_guess),
            )
            for kind in self.formats
        ]
        return solve(self._wanted(), limits, seconds)

    def _measured(self, found: Solution, limit: int | None) -> Allocation:
        """Return an allocation with the bytes of its files; let the costs be what these took."""
        chosen = {unit.name: self.choices[at] for unit, at in zip(self.units, found.places, strict=True)}
        made = self._allocation(found, chosen, {}, limit)
        sizes = {}
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the model that is returned is made with them
            model = made.apply(self.model, self.data, **self._applied)
            layer_of = self._layers_of(model)
            for kind in self.formats:
                path = pathlib.Path(folder) / f"model.{kind}"
                artifact = export(model, path, verify=False, **EXPORT[kind])
                sizes[kind] = artifact.nbytes
                self.costs[kind] = measured(artifact, layer_of, self.costs[kind], chosen)
                taken = sum(self.costs[kind][name][choice] for name, choice in chosen.items())
                self._rest[kind] = artifact.nbytes - taken
        return self._allocation(found, chosen, sizes, limit)

    def _layers_of(self, model: keras.Model) -> dict[str, str]:
        units = {layer.name: unit.name for unit in self.units for layer in unit.layers}
        found = {}
        for layer in flatten_layers(model):
            names = (layer.name, *getattr(layer, "source_names", ()))
            known = next((units[name] for name in names if name in units), None)
            if known is not None:
                found[layer.name] = known
        return found

    def _allocation(
        self, found: Solution, chosen: Mapping[str, Choice], sizes: Mapping[str, int], limit: int | None
    ) -> Allocation:
        rows = tuple(
            LayerAllocation(
                unit.name,
                tuple(layer.name for layer in unit.layers),
                chosen[unit.name],
                {kind: self.costs[kind][unit.name][chosen[unit.name]] for kind in self.formats},
                self.scores[unit.name][chosen[unit.name]],
                unit.size,
                None if self._latencies is None else self._latencies[unit.name][chosen[unit.name]],
            )
            for unit in self.units
        )
        return Allocation(rows, dict(sizes), limit, self.base, found.gap, found.seconds)


def _left(choices: Sequence[Choice], model: keras.Model) -> tuple[Choice, ...]:
    """Return the choices that a model has room for: one that is pruned or clustered already isn't once more."""
    transforms = [one for layer in wrapped_layers(model) for _, one in layer.transforms]
    pruned = any(isinstance(one, Mask) for one in transforms)
    clustered = any(isinstance(one, Codebook) for one in transforms)
    found = tuple(one for one in choices if not (pruned and one.sparsity) and not (clustered and one.table))
    if not found:
        raise ValueError(
            f"Expected choices that a model has room for. Received: {', '.join(map(str, choices))}, and one that is "
            f"{'pruned' if pruned else 'clustered'} already. Allow widths, such as 'int8'."
        )
    return found
