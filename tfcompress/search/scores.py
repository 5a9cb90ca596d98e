"""What each choice for each layer is expected to add to the loss: in one pass over data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.data.model_batches import batches
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.precision.monitoring.gradient_capture import compiled, value_and_gradients
from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.search.changed_kernels import Unit, changed
from tfcompress.search.choices import Choice
from tfcompress.search.output_losses import OutputLoss, losses_of

Tensor = Any

SAMPLES = 512
"""Of the data that are looked at."""

DRAWN_TOGETHER = 8
"""Samples whose gradients are added up before they are squared: as many squares as there are such batches."""

Scores = dict[str, dict[Choice, float]]
"""{layer: {choice: the expected rise of the loss}}."""


class Curvature:
    """The mean square of the gradients of a model's kernels, the targets drawn from what it predicts itself.

    That is the diagonal of the Fisher information, which is that of the loss' second derivatives where a model
    predicts well. The gradient of a sum over samples is squared, not that of each: drawn targets are independent and
    their gradients 0 on average, so that the products of those of different samples are, too.

    Args:
        model: Flat.
        units: Of its kernels.
        loss: As `losses_of` takes it.
        seed: Of the targets.
    """

    def __init__(self, model: keras.Model, units: Sequence[Unit], loss: Any = None, seed: int = 0):
        self.model = model
        self.variables = [variable for unit in units for variable in unit.variables]
        self.squares = [np.zeros(tuple(variable.shape), np.float32) for variable in self.variables]
        self.samples = 0
        self._loss = loss
        self._losses: list[OutputLoss] | None = None
        self._generator = np.random.default_rng(seed)
        self._gradients = compiled(self._traced)
        self._forward = compiled(self._outputs)

    def add(self, data: Any, samples: int = SAMPLES) -> None:
        """Go through data.

        Args:
            data: Inputs, as for `fit`.
            samples: How many are looked at, of the first.
        """
        for batch in self._small(batches(self.model, data, DRAWN_TOGETHER), samples):
            tensors = [
                ops.convert_to_tensor(x, dtype=spec.dtype) for x, spec in zip(batch, self.model.inputs, strict=True)
            ]
            values = [ops.convert_to_tensor(variable.value) for variable in self.variables]
            outputs = [np.asarray(ops.convert_to_numpy(x), np.float32) for x in self._forward(values, tensors)]
            if self._losses is None:
                self._losses = losses_of(self.model, self._loss, outputs)
            drawn = [loss.draw(x, self._generator) for loss, x in zip(self._losses, outputs, strict=True)]
            slopes = self._gradients(values, tensors, [ops.convert_to_tensor(x) for x in drawn])
            for total, slope in zip(self.squares, slopes, strict=True):
                np.add(total, np.square(np.asarray(ops.convert_to_numpy(slope), np.float32)), out=total)
            self.samples += len(batch[0])

    @property
    def losses(self) -> list[OutputLoss]:
        """Of each output; known when there was data."""
        assert self._losses is not None
        return self._losses

    def of(self, place: int) -> np.ndarray:
        """Return the mean squares for a kernel, by its place among all."""
        return self.squares[place] / max(self.samples, 1)

    def _small(self, given: Iterator[list[Any]], samples: int) -> Iterator[list[Any]]:
        """Yield batches of few samples; what belongs together, as the nodes of a graph, stays so."""
        seen = 0
        for batch in given:
            rows = {len(x) for x in batch if np.ndim(x)}
            count = rows.pop() if len(rows) == 1 else 0
            step = DRAWN_TOGETHER if count and count > DRAWN_TOGETHER else count
            pieces = [batch] if not count else ([x[at : at + step] for x in batch] for at in range(0, count, step))
            for piece in pieces:
                if seen >= samples:
                    return
                yield piece
                seen += len(piece[0])

    def _outputs(self, values: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        with keras.StatelessScope(state_mapping=list(zip(self.variables, values, strict=True))):
            made = self.model(keras.tree.pack_sequence_as(graph_of(self.model).input, list(inputs)), training=False)
        return keras.tree.flatten(made)

    def _traced(self, values: Sequence[Tensor], inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Tensor]:
        losses = self.losses

        def loss(values: Sequence[Tensor]) -> tuple[Tensor, Any]:
            outputs = self._outputs(values, inputs)
            return sum(one.value(x, y) for one, x, y in zip(losses, outputs, targets, strict=True)), ()

        return value_and_gradients(loss, values)[2]


def scores(
    model: keras.Model,
    units: Sequence[Unit],
    choices: Sequence[Choice],
    base: QuantizeConfig,
    data: Any,
    *,
    loss: Any = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> tuple[Scores, Mapping[str, Mapping[Choice, list[Any]]]]:
    """Return what each choice for each layer is expected to add to the loss, and what a file stores of it.

    Half of the curvature times the square of what the choice changes of the weights, as by LeCun et al., "Optimal
    Brain Damage" (1989); the curvature as Fisher information (Theis et al., arXiv:1801.05787).

    Args:
        model: Flat.
        units: Of its layers.
        choices: For each.
        base: How layers are quantized but for the bits.
        data: Inputs, as for `fit`.
        loss: As `losses_of` takes it.
        samples: How many are looked at.
        seed: Of the targets that are drawn.
    """
    curvature = Curvature(model, units, loss, seed)
    curvature.add(data, samples)
    found: Scores = {}
    stored: dict[str, dict[Choice, list[Any]]] = {}
    place = 0
    for unit in units:
        found[unit.name] = dict.fromkeys(choices, 0.0)
        stored[unit.name] = {choice: [] for choice in choices}
        for layer, position in unit.kernels:
            squares = curvature.of(place)
            for choice in choices:
                made = changed(layer, position, choice, base)
                found[unit.name][choice] += float(np.vdot(squares, np.square(made.change))) / 2
                stored[unit.name][choice].append(made.stored)
            place += 1
    return found, stored
