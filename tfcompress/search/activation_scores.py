"""What rounding the outputs of each layer to 8 bits is expected to add to the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.graph.index import GraphIndex, index_of
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer, activation_quantizers
from tfcompress.search.drawn_gradients import DRAWN_TOGETHER, DrawnGradients, called

Tensor = Any

DRAWS = 32
"""Gradients that are looked at, of `DRAWN_TOGETHER` samples each: thousands of values are averaged in each."""


def activation_scores(
    quantized: keras.Model, layer_of: Mapping[str, str], data: Any, *, loss: Any, samples: int, seed: int = 0
) -> dict[str, float]:
    """Return the expected rise of the loss by rounding what is behind each layer to the grids of a quantized model.

    Half of the curvature of the loss in each value, times the variance of its rounding error, a twelfth of the square
    of the scale; of all that is rounded between a layer with a kernel and the next.

    Args:
        quantized: Calibrated; its quantizers are changed, so that it is of no other use any more.
        layer_of: {layer of it: layer whose choice it has}, of those with kernels.
        data: Inputs, as for `fit`, that can be gone through several times.
        loss: As `losses_of` takes it.
        samples: How many are looked at.
        seed: Of the targets that are drawn.
    """
    hooks = _Hooks(quantized)
    owners = _owners(quantized, layer_of)
    shapes: dict[tuple[Any, ...], list[tuple[int, ...]]] = {}

    def errors(inputs: Sequence[Tensor]) -> list[Tensor]:
        key = tuple(tuple(x.shape) for x in inputs)
        if key not in shapes:
            shapes[key] = hooks.shapes(inputs)
        return [ops.zeros(shape, "float32") for shape in shapes[key]]

    gradients = DrawnGradients(quantized, hooks.evaluate, loss, seed, least=DRAWS)
    found = dict.fromkeys(layer_of.values(), 0.0)
    for slopes in gradients.draws(data, min(samples, DRAWS * DRAWN_TOGETHER), errors):
        for quantizer, slope in zip(hooks.order, slopes, strict=True):
            owner = owners.get(quantizer.name)
            if owner is not None:
                found[owner] += float(np.vdot(slope, slope)) * _variance(quantizer)
    return {name: total / (2 * max(gradients.samples, 1)) for name, total in found.items()}


def _variance(quantizer: ActivationQuantizer) -> float:
    low, high = quantizer.range
    return float(quantizer.spec.scale(low, high)) ** 2 / 12


class _Hooks:
    """Adds an error to what each call of a quantizer returns.

    Args:
        model: Quantized.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.order: list[ActivationQuantizer] = []
        self._errors: list[Tensor] | None = None
        self._calls = 0
        self._shapes: list[tuple[int, ...]] = []
        for quantizer in activation_quantizers(model):
            setattr(quantizer, "call", self._with_error(quantizer, quantizer.call))  # noqa: B010

    def evaluate(self, errors: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs with errors, one for each call."""
        self._errors, self._calls = list(errors), 0
        try:
            return called(self.model, inputs)
        finally:
            self._errors = None

    def shapes(self, inputs: Sequence[Tensor]) -> list[tuple[int, ...]]:
        """Return the shapes of what the calls return, and note whose they are."""
        self.order, self._shapes = [], []
        called(self.model, inputs)
        return self._shapes

    def _with_error(self, quantizer: ActivationQuantizer, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def with_error(*args: Any, **kwargs: Any) -> Tensor:
            made = call(*args, **kwargs)
            if self._errors is None:
                self.order.append(quantizer)
                self._shapes.append(tuple(int(size) for size in made.shape))
                return made
            self._calls += 1
            return made + ops.cast(self._errors[self._calls - 1], made.dtype)

        return with_error


def _owners(quantized: keras.Model, layer_of: Mapping[str, str]) -> dict[str, str]:
    """Return {quantizer: layer whose choice decides how it rounds}: the nearest with a kernel before it."""
    graph = index_of(quantized)
    found: dict[str, str] = {}
    for call in graph:
        if isinstance(call.operation, ActivationQuantizer):
            owner = _before(call, graph, layer_of)
            if owner is not None:
                found.setdefault(call.operation.name, owner)
    return found


def _before(call: Any, graph: GraphIndex, layer_of: Mapping[str, str]) -> str | None:
    """Return the layer with a kernel that is before a call, on the way along first inputs."""
    waiting, seen = list(call.inputs), set()
    while waiting:
        producer = graph.producer(waiting.pop(0))
        if producer is None or id(producer.node) in seen:
            continue
        seen.add(id(producer.node))
        if producer.operation.name in layer_of:
            return layer_of[producer.operation.name]
        waiting.extend(producer.inputs)
    return None
