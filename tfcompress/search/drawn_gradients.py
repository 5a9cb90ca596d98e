"""Gradients of a model's loss with targets that are drawn from what it predicts itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.data.model_batches import batches
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.precision.monitoring.gradient_capture import compiled, value_and_gradients
from tfcompress.search.output_losses import OutputLoss, losses_of

Tensor = Any
Evaluate = Callable[[Sequence[Tensor], Sequence[Tensor]], list[Tensor]]
"""Takes the values that gradients are of, and inputs; returns the outputs, flat."""

DRAWN_TOGETHER = 4
"""Samples whose gradients are added up, at most: as many gradients as there are such batches."""

LEAST_DRAWS = 128
"""Gradients that are looked at: where samples are few, targets are drawn several times."""


class DrawnGradients:
    """Yields gradients whose mean square is the curvature of the loss, in any direction.

    That is the Fisher information, the loss' second derivatives where a model predicts well. The gradient of a sum over
    samples is squared, not that of each: drawn targets are independent and their gradients 0 on average, so that the
    products of those of different samples are, too.

    Args:
        model: Flat.
        evaluate: The model as a function of what gradients are of.
        loss: As `losses_of` takes it.
        seed: Of the targets.
        least: How many gradients are looked at, at least.
    """

    def __init__(
        self, model: keras.Model, evaluate: Evaluate, loss: Any = None, seed: int = 0, least: int = LEAST_DRAWS
    ):
        self.model = model
        self.least = least
        self.samples = 0
        self._evaluate = evaluate
        self._loss = loss
        self._losses: list[OutputLoss] | None = None
        self._generator = np.random.default_rng(seed)
        self._gradients = compiled(self._traced)
        self._forward = compiled(evaluate)

    def draws(
        self, data: Any, samples: int, values: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    ) -> Iterator[list[np.ndarray]]:
        """Yield the gradients of few samples at a time, and count these.

        Args:
            data: Inputs, as for `fit`, that can be gone through several times.
            samples: How many are looked at, of the first.
            values: Returns what gradients are of, for a batch of inputs.
        """
        few = _small(batches(self.model, data, DRAWN_TOGETHER), min(samples, LEAST_DRAWS), DRAWN_TOGETHER)
        rows = sum(_rows(batch) for batch in few)
        together = min(max(rows * DRAWN_TOGETHER // LEAST_DRAWS, 1), DRAWN_TOGETHER)  # each is drawn several times
        count = 0
        while count < self.least:
            begun = count
            for batch in _small(batches(self.model, data, DRAWN_TOGETHER), samples, together):
                yield self._draw(batch, values)
                count += 1
            if count == begun:
                return

    def _draw(self, batch: list[Any], values: Callable[[Sequence[Tensor]], Sequence[Tensor]]) -> list[np.ndarray]:
        declared = self.model.inputs
        inputs = [ops.convert_to_tensor(x, dtype=spec.dtype) for x, spec in zip(batch, declared, strict=True)]
        at = list(values(inputs))
        outputs = [np.asarray(ops.convert_to_numpy(x), np.float32) for x in self._forward(at, inputs)]
        if self._losses is None:
            self._losses = losses_of(self.model, self._loss, outputs)
        drawn = [loss.draw(x, self._generator) for loss, x in zip(self._losses, outputs, strict=True)]
        slopes = self._gradients(at, inputs, [ops.convert_to_tensor(x) for x in drawn])
        self.samples += _rows(batch)
        return [np.asarray(ops.convert_to_numpy(slope), np.float32) for slope in slopes]

    @property
    def losses(self) -> list[OutputLoss]:
        """Of each output; known when there was data."""
        assert self._losses is not None
        return self._losses

    def _traced(self, values: Sequence[Tensor], inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Tensor]:
        losses = self.losses

        def loss(values: Sequence[Tensor]) -> tuple[Tensor, Any]:
            outputs = self._evaluate(values, inputs)
            return sum(one.value(x, y) for one, x, y in zip(losses, outputs, targets, strict=True)), ()

        return value_and_gradients(loss, values)[2]


def called(model: keras.Model, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the outputs of a flat model in inference, flat."""
    structured = keras.tree.pack_sequence_as(graph_of(model).input, list(inputs))
    return list(keras.tree.flatten(model(structured, training=False)))


def _rows(batch: list[Any]) -> int:
    return max(len(x) for x in batch if np.ndim(x))


def _small(given: Iterator[list[Any]], samples: int, together: int) -> Iterator[list[Any]]:
    """Yield batches of few samples; what belongs together, as the nodes of a graph, stays so."""
    seen = 0
    for batch in given:
        rows = {len(x) for x in batch if np.ndim(x)}
        count = rows.pop() if len(rows) == 1 else 0
        step = min(count, together)
        for piece in [batch] if not count else ([x[at : at + step] for x in batch] for at in range(0, count, step)):
            if seen >= samples:
                return
            yield piece
            seen += len(piece[0])
