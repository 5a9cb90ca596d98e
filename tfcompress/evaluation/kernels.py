"""The kernels of a model, as its layers see them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras.layers import Layer

from tfcompress.core.sharding import gathered
from tfcompress.core.transform import WeightTransform, read
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import inner_weights, without_marks
from tfcompress.graph import kernel_positions
from tfcompress.graph.leaf_layers import leaf_layers
from tfcompress.graph.rewrite import calls
from tfcompress.quantization.graph.operator_status import OperatorStatus, operator_status
from tfcompress.quantization.quantize import is_quantized
from tfcompress.quantization.weights.float16 import Float16Weight
from tfcompress.quantization.weights.uniform import WeightQuantizer


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """One kernel.

    Attributes:
        label: its name, with as much of its path as tells it from the layer's others.
        value: as the layer sees it.
        chain: what makes that of the weight.
        position: of the weight among those of the innermost layer.
    """

    label: str
    value: np.ndarray
    chain: tuple[WeightTransform, ...]
    position: int

    @property
    def bits(self) -> int:
        """Of one value, as a file may store it."""
        found = (_bits_of(transform) for transform in reversed(self.chain))
        return next((bits for bits in found if bits), 8 * self.value.dtype.itemsize)


def parts(model: keras.Model) -> Iterator[tuple[Any, OperatorStatus | None]]:
    """Yield the layers of a model; of a quantized one also its operations, each with its status."""
    if not is_quantized(model):
        yield from ((layer, None) for layer in leaf_layers(model))
        return
    statuses = operator_status(model)
    seen: set[int] = set()
    for call in calls(model):
        if id(call.operation) in statuses and id(call.operation) not in seen:
            seen.add(id(call.operation))
            yield call.operation, statuses[id(call.operation)]


def kernels_of(layer: Any) -> list[Kernel]:
    """Return the kernels of a layer, wrapped or plain; of what is no layer none."""
    positions = kernel_positions(layer) if isinstance(layer, Layer) else []
    if not positions:
        return []
    weights = inner_weights(layer)
    layer = without_marks(layer)
    names = _distinct_names([weights[position] for position in positions])
    wrapped = isinstance(layer, CompressedLayer)
    seen: dict[int, Any] = layer.transformed() if wrapped else {}
    return [
        Kernel(
            label,
            gathered(seen[position]) if position in seen else read(weights[position]),
            tuple(layer.chain(position)) if wrapped else (),
            position,
        )
        for position, label in zip(positions, names, strict=True)
    ]


def encodings_of(layer: Any) -> dict[int, Any]:
    """Return, by position, what a file stores of the weights of a layer that are transformed."""
    layer = without_marks(layer) if isinstance(layer, Layer) else layer
    return layer.encoded() if isinstance(layer, CompressedLayer) else {}


def _bits_of(transform: Any) -> int | None:
    if isinstance(transform, WeightQuantizer):
        return transform.spec.bits
    return 16 if isinstance(transform, Float16Weight) else None


def _distinct_names(weights: list[keras.Variable]) -> list[str]:
    """Return the names of weights, with as much of their paths as tells them apart."""
    for count in range(1, 12):
        names = ["/".join(weight.path.split("/")[-count:]) for weight in weights]
        if len(set(names)) == len(names):
            return names
    return [f"{weight.name}_{index}" for index, weight in enumerate(weights)]
