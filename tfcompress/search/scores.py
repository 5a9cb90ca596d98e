"""What each choice for each layer is expected to add to the loss, by what it changes of the weights: in one pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.search.changed_kernels import ChangedKernel, Unit, changes
from tfcompress.search.choices import Choice
from tfcompress.search.drawn_gradients import DrawnGradients, called
from tfcompress.search.output_losses import NoScores

Tensor = Any

SAMPLES = 512
"""Of the data that are looked at."""

HELD = 2**29
"""Bytes of changed kernels that are held: of models that have more, data is gone through for some layers at a time."""

DRAWS = 8
"""Gradients that are multiplied with changed kernels together: these are read once for all."""

Scores = dict[str, dict[Choice, float]]
"""{layer: {choice: the expected rise of the loss}}."""

Stored = Mapping[str, Mapping[Choice, Sequence[Any]]]
"""{layer: {choice: the integers of each kernel, `None` for floats}}."""


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
) -> tuple[Scores, Stored]:
    """Return what each choice for each layer is expected to add to the loss, and what a file stores of it.

    Half of the loss' curvature in the direction of the change: half of the mean of (g d)^2, where g is the gradient
    with drawn targets and d all that a choice changes of a layer's weights (Hassibi and Stork, "Second order
    derivatives for network pruning", 1993, with the Fisher information of each layer in place of the second
    derivatives). The diagonal alone, the mean of g^2 d^2, says less of pruned and clustered kernels, whose changes
    aren't independent.

    Args:
        model: Flat.
        units: Of its layers.
        choices: For each.
        base: How layers are quantized but for the bits.
        data: Inputs, as for `fit`, that can be gone through several times.
        loss: As `losses_of` takes it.
        samples: How many are looked at.
        seed: Of the targets that are drawn.
    """
    found: Scores = {}
    stored: dict[str, dict[Choice, list[Any]]] = {}
    for group in _groups(units, len(choices)):
        made = {unit.name: _changes(unit, choices, base) for unit in group}
        for unit in group:
            each = zip(choices, made[unit.name], strict=True)
            stored[unit.name] = {choice: [one.stored for one in kernels] for choice, kernels in each}
        rises = _rises(model, group, made, data, loss=loss, samples=samples, seed=seed)
        for unit in group:
            found[unit.name] = dict(zip(choices, rises[unit.name].tolist(), strict=True))
    return found, stored


def _groups(units: Sequence[Unit], choices: int) -> Iterator[list[Unit]]:
    """Yield units whose changed kernels are held together."""
    group: list[Unit] = []
    held = 0
    for unit in units:
        nbytes = 4 * choices * unit.size
        if group and held + nbytes > HELD:
            yield group
            group, held = [], 0
        group.append(unit)
        held += nbytes
    yield group


def _changes(unit: Unit, choices: Sequence[Choice], base: QuantizeConfig) -> list[list[ChangedKernel]]:
    """Return the kernels of a layer for each choice."""
    kernels = [changes(layer, position, choices, base) for layer, position in unit.kernels]
    return [list(each) for each in zip(*kernels, strict=True)]


def _rises(
    model: keras.Model,
    units: Sequence[Unit],
    made: Mapping[str, Sequence[Sequence[ChangedKernel]]],
    data: Any,
    *,
    loss: Any,
    samples: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Return {layer: the expected rise by each of its choices}."""
    variables = [variable for unit in units for variable in unit.variables]
    changes = []  # of each kernel: (choices, weights)
    for unit in units:
        for place in range(len(unit.kernels)):
            changes.append(np.stack([kernels[place].change.reshape(-1) for kernels in made[unit.name]]))

    def evaluate(values: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return called(model, inputs)

    values = [ops.convert_to_tensor(variable.value) for variable in variables]
    gradients = DrawnGradients(model, evaluate, loss, seed)
    rises = {unit.name: np.zeros(len(made[unit.name])) for unit in units}
    for drawn in _together(gradients.draws(data, samples, lambda inputs: values)):
        place = 0
        for unit in units:
            along = np.zeros((len(made[unit.name]), len(drawn)))
            for _ in unit.kernels:
                along += changes[place] @ np.stack([slopes[place].reshape(-1) for slopes in drawn]).T
                place += 1
            rises[unit.name] += np.square(along).sum(axis=1)
    broken = next((name for name, sums in rises.items() if not math.isfinite(sums.sum())), None)
    if broken is not None:
        raise NoScores(
            f"Expected finite gradients. Received: NaN or infinite ones in layer {broken!r}. Look at the data and the "
            "model's outputs."
        )
    return {name: sums / (2 * max(gradients.samples, 1)) for name, sums in rises.items()}


def _together(drawn: Iterator[list[np.ndarray]]) -> Iterator[list[list[np.ndarray]]]:
    """Yield `DRAWS` draws at a time, and what is left."""
    while several := list(itertools.islice(drawn, DRAWS)):
        yield several
