"""What the kernels of a layer become by a choice: made by the transforms that the verbs put on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras.layers import Layer

from tfcompress.clustering.cluster import codebooks_of
from tfcompress.clustering.wrapping import around
from tfcompress.core.transform import WeightTransform, read
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import inner_weights, with_transforms
from tfcompress.graph import LayerChoice, kernel_positions
from tfcompress.pruning.top_k import keep_count, largest
from tfcompress.quantization.encoding import Affine
from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.quantization.weights.left_dense import LeftDense
from tfcompress.quantization.weights.quantizer import weight_quantizer
from tfcompress.search.choices import Choice


@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
    """Layers that get one choice: one, or several that share a weight.

    Attributes:
        layers: Of a flat model, in its order.
        kernels: Each kernel once, with the layer that it was first found in and its position there.
    """

    layers: tuple[Layer, ...]
    kernels: tuple[tuple[Layer, int], ...]

    @property
    def name(self) -> str:
        """Of its first layer."""
        return str(self.layers[0].name)

    @property
    def variables(self) -> list[keras.Variable]:
        """The kernels as variables."""
        return [inner_weights(layer)[position] for layer, position in self.kernels]

    @property
    def size(self) -> int:
        """How many weights its kernels have."""
        return sum(int(np.prod(variable.shape)) for variable in self.variables)


def units_of(model: keras.Model, choice: LayerChoice) -> list[Unit]:
    """Return the layers with kernels of a flat model, those with a shared weight together.

    Raises:
        ValueError: None that is meant has a kernel.
    """
    groups: list[tuple[list[Layer], dict[int, tuple[Layer, int]]]] = []
    for layer in model.layers:
        if not choice.includes(layer):
            continue
        found = {id(inner_weights(layer)[at]): (layer, at) for at in kernel_positions(layer)}
        if not found:
            continue
        shared = [group for group in groups if group[1].keys() & found.keys()]
        layers = [one for group in shared for one in group[0]]
        kernels: dict[int, tuple[Layer, int]] = {}
        for group in shared:
            kernels |= group[1]
            groups.remove(group)
        groups.append(([*layers, layer], found | kernels))
    choice.check()
    if not groups:
        raise ValueError(
            f"Expected layers with a kernel. Received: {model.name!r}, in which none that is meant has one."
        )
    return [Unit(tuple(layers), tuple(kernels.values())) for layers, kernels in groups]


@dataclasses.dataclass(frozen=True)
class ChangedKernel:
    """A kernel as a choice makes it.

    Attributes:
        change: What it becomes less what it is, float32.
        stored: The integers with their scales that a file has of it; `None`: it is float.
    """

    change: np.ndarray
    stored: Affine | None


def changes(layer: Layer, position: int, choices: Sequence[Choice], base: QuantizeConfig) -> list[ChangedKernel]:
    """Return what a kernel becomes by each choice.

    Args:
        layer: A built layer of a flat model, or a wrapper around one; it stays as it is.
        position: Of the kernel.
        choices: What the layer may become.
        base: How it is quantized but for the bits.
    """
    before = _seen(layer, position)
    pruned = {sparsity: _pruned(before, sparsity) for sparsity in {choice.sparsity for choice in choices}}
    found = []
    for choice in choices:
        after, stored = _transformed(layer, position, pruned[choice.sparsity], choice, base)
        found.append(ChangedKernel(after - before, stored))
    return found


def _seen(layer: Layer, position: int) -> np.ndarray:
    """Return what a layer sees of a kernel: under the masks that it has."""
    if isinstance(layer, CompressedLayer):
        value = layer.transformed().get(position)
        if value is not None:
            return np.array(keras.ops.convert_to_numpy(value), np.float32)
    return read(inner_weights(layer)[position]).astype(np.float32)


def _pruned(value: np.ndarray, sparsity: float) -> np.ndarray:
    if not sparsity:
        return value
    (kept,) = largest([np.abs(value)], keep_count(value.size, sparsity))
    return np.where(np.asarray(keras.ops.convert_to_numpy(kept)), value, np.float32(0))


def _transformed(
    layer: Layer, position: int, value: np.ndarray, choice: Choice, base: QuantizeConfig
) -> tuple[np.ndarray, Affine | None]:
    """Return a kernel of a value behind the codebook and the quantizer of a choice, and what is stored of it."""
    made: Any = layer
    variable = inner_weights(layer)[position]
    old = read(variable)
    variable.assign(value)
    try:
        if choice.cluster is not None:
            codebooks = codebooks_of(layer, [position], choice.cluster)
            if not any(isinstance(one, LeftDense) for one in codebooks.values()):
                made = around(layer, codebooks, keep_zeros=True)
        config = choice.quantize(base)
        if config is not None:
            quantizer: WeightTransform = weight_quantizer(made, position, config.weights, config.activations)
            made = with_transforms(made, [(position, quantizer)])
            fit = getattr(quantizer, "fit", None)
            if fit is not None:
                fit(made.value_before(quantizer))
        if made is layer:
            return value, None
        encoded = made.encoded()[position]
        values = encoded if isinstance(encoded, np.ndarray) else encoded.decode()
        return values.astype(np.float32, copy=False), encoded if isinstance(encoded, Affine) else None
    finally:
        variable.assign(old)
