"""What pruning each layer is expected to add to the loss, as `tfcompress.allocation` reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfcompress.core.arguments import check_several
from tfcompress.data.model_batches import again
from tfcompress.graph import LayerChoice, check_built, rebuild
from tfcompress.graph.keras_quantized import check_floats
from tfcompress.graph.selectors import Layers
from tfcompress.pruning.schedules.base import check_sparsity
from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.search.changed_kernels import units_of
from tfcompress.search.choices import FLOAT, Choice
from tfcompress.search.scores import SAMPLES, scores

SPARSITIES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)


@dataclasses.dataclass(frozen=True)
class SparsityScores:
    """Expected rises of the loss by layer and sparsity.

    Attributes:
        sizes: {layer: number of kernel weights}, of several layers that share a weight the first.
        rises: {layer: {sparsity: expected rise of the loss}}.
    """

    sizes: Mapping[str, int]
    rises: Mapping[str, Mapping[float, float]]

    def losses(self) -> Mapping[str, Mapping[float, float]]:
        """Return the rises."""
        return self.rises


def sparsity_scores(
    model: keras.Model,
    data: Any,
    *,
    sparsities: Sequence[float] = SPARSITIES,
    layers: Layers = None,
    loss: Any = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> SparsityScores:
    """Return what pruning each layer by magnitude is expected to add to the loss.

    Args:
        model: A built Keras model of any kind that isn't quantized; it is not changed.
        data: A few hundred inputs, without labels.
        sparsities: Shares of zeros, in [0, 1).
        layers: Which layers, as in `tfcompress.prune`.
        loss: As for `tfcompress.allocate`.
        samples: How many inputs are looked at.
        seed: Of the targets that are drawn.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> layers = [keras.layers.Dense(8, name="a"), keras.layers.Dense(3, name="b")]
    >>> model = keras.Sequential([keras.Input((8,)), *layers])
    >>> found = sparsity_scores(model, np.random.default_rng(0).normal(size=(64, 8)).astype("float32"))
    >>> list(tfc.allocation.least_loss(found, 0.6))
    ['a', 'b']
    """
    check_several("sparsities", sparsities, "[0.5, 0.9]")
    levels = sorted({check_sparsity("sparsities", one) for one in sparsities})
    check_built(model)
    check_floats(model, "Score")
    flat = rebuild(model)
    units = units_of(flat, LayerChoice(layers))
    choices = [Choice(FLOAT, sparsity=level) for level in levels]
    loss = getattr(model, "loss", None) if loss is None else loss
    found, _ = scores(flat, units, choices, QuantizeConfig(), again(data), loss=loss, samples=samples, seed=seed)
    rises = {name: {one.sparsity: rise for one, rise in each.items()} for name, each in found.items()}
    return SparsityScores({unit.name: unit.size for unit in units}, rises)
