"""Plain layers with the materialized weights of a quantized model, and what of them a file stores as integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.passthrough import PassThrough
from tfcompress.core.transform import Encoded, Projection, decoded, read
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.export.plan.integer_layers import MatrixProduct
from tfcompress.export.plan.planned_weights import PlannedWeight, PlannedWeights
from tfcompress.graph.affine_forms import constant_map
from tfcompress.graph.clone import copy_layer
from tfcompress.graph.copy_objects import Copies
from tfcompress.graph.rewrite import Call
from tfcompress.layers.channel_axes import channels_of
from tfcompress.layers.names import name_of
from tfcompress.quantization.encoding import Affine
from tfcompress.quantization.graph.batch_norm_folding import affine_of, folded
from tfcompress.quantization.graph.integer_lstm import IntegerLSTM
from tfcompress.quantization.numerics.lstm_step import CELL_SCALE
from tfcompress.quantization.weights.gates import of_gates
from tfcompress.tracing.fused_lstms import CELL_LIMIT


def unwrapped(operation: Any) -> tuple[Any, dict[int, np.ndarray | Encoded]]:
    """Return the layer inside of wrappers, and what of its weights they compute with, by their positions."""
    values: dict[int, np.ndarray | Encoded] = {}
    while isinstance(operation, PassThrough):
        if isinstance(operation, CompressedLayer):
            values = operation.encoded()
        elif not operation.temporary:
            break
        operation = operation.layer
    return operation, values


class MaterializedLayers:
    """Makes plain layers with the weights that wrappers compute with; records how a file stores each.

    Args:
        model: Whose layers these are; it is left as it is.

    Attributes:
        encodings: {id of a variable of the layers that it returns: its integers and scales}.
    """

    def __init__(self, model: keras.Model | None = None) -> None:
        self.encodings: dict[int, Affine] = {}
        self.copies = Copies(model)

    def layer(self, operation: Any) -> Any:
        """Return a copy of the layer inside of a wrapper, with the weights that it sees."""
        inner, values = unwrapped(operation)
        if not isinstance(inner, keras.layers.Layer):
            return self.copies.of(inner)
        for weight in inner.weights:
            if isinstance(weight.constraint, Projection):  # which would be copied with its transforms
                self.copies.memo[id(weight.constraint)] = weight.constraint.constraint
        made = copy_layer(inner, operation.name, copies=self.copies)
        for position, value in values.items():
            self.store(made.weights[position], value)
        if isinstance(operation, IntegerLSTM):
            object.__setattr__(made, CELL_LIMIT, 2.0**15 * CELL_SCALE)
        return made

    def store(self, weight: keras.Variable, value: np.ndarray | Encoded) -> None:
        """Let a variable have the values of what a file stores."""
        weight.assign(decoded(value))
        if isinstance(value, Affine):
            self.encodings[id(weight)] = value

    def folded(self, operation: Any, scale: np.ndarray, offset: np.ndarray) -> Any:
        """Return a layer that computes `operation(x) * scale + offset`: the integers stay, but for signs."""
        layer, values = unwrapped(operation)
        channels = channels_of(layer)
        count = channels.output_count if channels is not None else 1
        factors, offset = (np.broadcast_to(np.asarray(part, np.float64), (count,)) for part in (scale, offset))
        weights = {position: layer.weights[position] for position in values}
        made = folded(layer, factors, offset, {weights[at].name: decoded(value) for at, value in values.items()})
        made.name = operation.name
        for position, value in values.items():
            if isinstance(value, Affine) and channels is not None:
                outputs = weights[position] is getattr(layer, channels.outputs)
                scaled = value.scaled(factors[channels.output_index]) if outputs else value
                self.store(getattr(made, weights[position].name), scaled)
        return made

    def product(self, layer: Any, call: Call) -> Any:
        """Return a Dense or EinsumDense as one product of matrices, where it is one."""
        made = MatrixProduct.of(layer, call)
        value = self.encodings.get(id(layer.kernel))
        if made is not layer and value is not None:
            self.store(made.kernel, value.transpose(made.form.kernel_axes).reshape(made.kernel.shape))
        return made

    def constant(self, layer: Any, axis: int) -> Any:
        """Return a layer whose kernel holds one value for each place along an axis, on a grid for each of them."""
        kernel = read(layer.kernel)
        others = tuple(place for place in range(kernel.ndim) if place != axis)
        self.store(layer.kernel, Affine.symmetric(kernel, np.abs(kernel).max(axis=others), 8, (axis,)))
        return layer

    def planned(
        self, model: keras.Model, sources: Mapping[str, str], kind: str
    ) -> tuple[PlannedWeights, tuple[keras.Variable, ...]]:
        """Return the weights of a model that a file stores as integers, and the variables that have their values.

        Args:
            model: Of layers that were returned.
            sources: {name of a layer: that of the quantized model that it stands for}.
            kind: "tflite", whose LSTMs have a kernel for each gate, or "onnx".
        """
        layers = flatten_layers(model, include_self=False)  # what is outside comes first, and has the name
        owners = {id(weight): (layer.name, weight) for layer in reversed(layers) for weight in layer.weights}
        stored = [owner for key, owner in reversed(owners.items()) if key in self.encodings]
        lstms = {layer.name for layer in layers if isinstance(layer, keras.layers.LSTM)} if kind == "tflite" else set()
        weights = PlannedWeights(
            PlannedWeight(sources.get(layer, layer), weight.name, part)
            for layer, weight in stored
            for part in (of_gates if layer in lstms else _whole)(self.encodings[id(weight)])
        )
        return weights, tuple(weight for _, weight in stored)


def _whole(encoding: Affine) -> list[Affine]:
    return [encoding]


def scale_and_offset(call: Call) -> tuple[Any, Any]:
    """Return (scale, offset) of an affine map: arrays of one value for each channel, or scalars; float64."""
    constant = constant_map(call)
    if constant is not None:
        return constant
    layer, values = unwrapped(call.operation)
    layer = MaterializedLayers().layer(call.operation) if values else layer
    name = name_of(layer)
    if name == "rescaling":
        return np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    if name == "layerscale":
        return read(layer.gamma).astype(np.float64), np.float64(0.0)
    if name == "normalization":
        mean = np.asarray(keras.ops.convert_to_numpy(layer.mean), np.float64).reshape(-1)
        deviation = np.sqrt(np.asarray(keras.ops.convert_to_numpy(layer.variance), np.float64).reshape(-1))
        deviation = np.maximum(deviation, keras.config.epsilon())
        return 1.0 / deviation, -mean / deviation
    return affine_of(layer)
