"""The graph that is exported for a quantized model: kernels of integers, constant quantizers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.out_of_memory import give_back
from tfcompress.core.passthrough import innermost
from tfcompress.core.replicas import without_scopes
from tfcompress.core.transform import read
from tfcompress.core.wrapper import CompressedLayer, wrapped_layers
from tfcompress.export.plan.integer_layers import AffineMap, MatrixProduct, ScalarMap, WindowMean, closed, opened
from tfcompress.export.plan.integer_regions import IntegerRegions
from tfcompress.export.plan.materialized_layers import MaterializedLayers, scale_and_offset
from tfcompress.export.plan.planned_weights import PlannedWeights
from tfcompress.export.plan.scheme import Scheme, check_bits, scheme_of
from tfcompress.graph import rebuild
from tfcompress.graph.flatten import is_flat
from tfcompress.graph.naming import free, keep_output_names
from tfcompress.graph.rewrite import Call, calls_forgotten, rewritten
from tfcompress.graph.strip import stripped
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.activation_quantizer import UP, ActivationQuantizer, activation_quantizers
from tfcompress.quantization.graph.affine_maps import QuantizedMap, product_and_sum, rounding
from tfcompress.quantization.graph.average_windows import depthwise_window
from tfcompress.quantization.graph.op_policies import AFFINE, KERNEL, RELU, RESIZING, TABLE
from tfcompress.quantization.graph.placement import shares_range
from tfcompress.quantization.graph.quantizer_sources import name_of_call
from tfcompress.quantization.numerics.constant_range import FixedQuantizer
from tfcompress.quantization.numerics.grid import Grid
from tfcompress.quantization.quantize import is_quantized
from tfcompress.quantization.weights.float16 import Float16Weight
from tfcompress.quantization.weights.uniform import WeightQuantizer
from tfcompress.tracing.signature import read_signature


@dataclasses.dataclass(frozen=True)
class Deployment:
    """What is exported for a model.

    Attributes:
        model: Plain layers and constant quantizers.
        scheme: What it computes in; `None` for a float model.
        half: Whether its kernels are float16 numbers.
        scales: That of the grid of each output, by name; `None` where an output is float.
        sources: {name of a layer of `model`, or of an output: the layer of the quantized model that it stands for}.
        weights: Those that the file stores as integers.
        variables: Of `model`, which have their values.
    """

    model: keras.Model
    scheme: Scheme | None
    half: bool
    scales: dict[str, float | None]
    sources: dict[str, str] = dataclasses.field(default_factory=dict)
    weights: PlannedWeights = dataclasses.field(default_factory=PlannedWeights)
    variables: tuple[keras.Variable, ...] = ()

    @property
    def grids(self) -> dict[str, Grid]:
        """{name of a quantizer of `model`: the grid that it rounds to}."""
        return {
            layer.name: Grid.of_range(layer.minimum, layer.maximum, layer.bits, layer.narrow)
            for layer in flatten_layers(self.model)
            if isinstance(layer, FixedQuantizer)
        }

    @property
    def rounding(self) -> frozenset[str]:
        """The layers of the quantized model whose inputs, floats there, a kernel of the file rounds at run time."""
        return frozenset(self.weights.rounding)

    def forget_values(self) -> None:
        """Free the float values of the planned weights: `model`, and what was traced of it, can't be run any more."""
        import tensorflow as tf

        freed = 0
        for variable in self.variables:
            handle, dtype = variable.value.handle, variable.value.dtype
            tf.raw_ops.AssignVariableOp(resource=handle, value=tf.zeros((0,), dtype), validate_shape=False)
            freed += dtype.size * math.prod(variable.shape)
        give_back(freed, cycles=False)


def deploy(model: keras.Model, kind: str) -> Deployment:
    """Make the model that is exported for another.

    Args:
        model: Built; a quantized one calibrated or trained.
        kind: "tflite" or "onnx".

    Returns:
        The deployment. Of a model that isn't quantized: itself without wrappers. Of one that is: kernels on their
        grids, batch normalization folded, dense layers as matrix products of two dimensions, one constant quantizer
        behind each tensor that is quantized.

    Raises:
        ValueError: If a range isn't calibrated (the message names the layer), or no runtime has kernels of that many
            bits, or for such ranges.
    """
    if not is_quantized(model):
        return Deployment(stripped(model) if wrapped_layers(model) else model, None, False, {})
    scheme = scheme_of(model)
    half = any(isinstance(t, Float16Weight) for layer in wrapped_layers(model) for _, t in layer.transforms)
    bare = [
        quantizer.source or quantizer.name for quantizer in activation_quantizers(model) if not quantizer.calibrated
    ]
    if bare:
        raise ValueError(
            f"Expected calibrated ranges. Received: {model.name!r}, in which {len(bare)} are not, the first that of "
            f"{bare[0]!r}. Call tfcompress.calibrate(model, data), or train it."
        )
    if scheme is not None:
        check_bits(model, kind)
    flat = model if is_flat(model) else rebuild(model, check=False)
    with calls_forgotten(flat), without_scopes():
        return _Deployer(flat, kind, scheme, half).run()


class _Deployer(IntegerRegions):
    """One walk; the model is left as it is."""

    def __init__(self, model: keras.Model, kind: str, scheme: Scheme | None, half: bool):
        super().__init__(model, scheme)
        self.kind = kind
        self.half = half
        self.names = {call.operation.name for call in self.graph} | {x.name for x in model.inputs}
        self.made: dict[tuple[Any, ...], Any] = {}
        self.sources: dict[str, str] = {}
        self.materialized = MaterializedLayers(model)

    def run(self) -> Deployment:
        names = list(self.model.output_names)
        labels = read_signature(self.model).output_names or ()
        scales = {name: self.scale(x) for name, x in zip(labels, self.model.outputs, strict=True)}
        for name, x in zip(labels, self.model.outputs, strict=True):
            before = self.graph.producer(x)
            while before is not None and (isinstance(before.operation, ActivationQuantizer) or before in self.folded):
                before = self.graph.producer(before.inputs[0])
            self.sources[name] = before.operation.name if before is not None else name
        made = keep_output_names(rewritten(self.model, self.visit), names).model()
        weights, variables = self.materialized.planned(made, self.sources, self.kind)
        return Deployment(made, self.scheme, self.half, scales, self.sources, weights, variables)

    def name(self, wanted: str) -> str:
        made = free(wanted, self.names)
        self.names.add(made)
        return made

    def visit(self, call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        operation = call.operation
        if isinstance(operation, ActivationQuantizer):
            return arguments[0] if operation.spec.dynamic else self.quantized(call, arguments[0])
        if call in self.folded:
            return _tensor(arguments)
        rule = self.placement.rules[call]
        if rule.kind == RELU and self.implied(call):
            return arguments[0]
        if self.static and shares_range(call, rule):
            arguments, keywords = self.same_range(call, (arguments, keywords))
        operation_here = self.operation(call)
        if isinstance(operation_here, AffineMap | MatrixProduct | ScalarMap):  # they take neither masks nor constants
            arguments, keywords = (_tensor(arguments),), {}
        between = call in self.floating | self.alone and any(map(self.on_grid, call.inputs))
        if between and self.kind == "tflite":  # whose converter quantizes some of it by itself
            arguments, keywords = keras.tree.map_structure(opened, (arguments, keywords))
        outputs = operation_here(*arguments, **keywords)
        if between and (self.kind == "tflite" or self.read_by_quantizers(call)):
            return keras.tree.map_structure(closed, outputs)
        if self.static and rule.kind == TABLE and isinstance(operation, CompressedLayer) and call not in self.alone:
            return self.on_its_grid(operation, operation_here, outputs)
        return outputs

    def operation(self, call: Call) -> Any:
        """Return what does a call in the graph that is exported; made once for each layer, and each size of windows."""
        window = self.window(call)
        key = (id(call.operation),) if window is None else (id(call.operation), *window, call.inputs[0].shape[-1])
        if key not in self.made:
            self.made[key] = made = (
                self.materialized.layer(call.operation) if call in self.floating else self.make(call)
            )
            if isinstance(made, AffineMap | MatrixProduct | ScalarMap):  # a Keras mask goes as far as it did
                made.supports_masking = getattr(call.operation, "supports_masking", False)
            self.sources[self.made[key].name] = call.operation.name
        return self.made[key]

    def make(self, call: Call) -> Any:
        kind = self.placement.rules[call].kind
        if kind == KERNEL:
            following = self.following(call)
            if following is None:
                made = self.materialized.layer(call.operation)
            else:
                made = self.materialized.folded(call.operation, *following)
            if self.scheme is not None and name_of(made) in ("dense", "einsumdense"):
                return self.materialized.product(made, call)
            return made
        if kind == AFFINE and self.static:
            scale, offset = scale_and_offset(call)
            offset = offset + rounding(call.operation)
            later = self.following(call)
            if later is not None:
                scale, offset = scale * later[0], offset * later[0] + later[1]
            return self.affine_map(call, scale, offset)
        window = self.window(call)
        if window is not None:
            name = call.operation.name
            if any(first == id(call.operation) for first, *_ in self.made):
                name = self.name(name)
            return self.materialized.constant(WindowMean(*window, call.inputs[0].shape[-1], name=name), axis=2)
        operation = self.materialized.layer(call.operation)
        if name_of(operation) == "hardsigmoid" and isinstance(call.operation, QuantizedMap):
            return self.affine_map(call, np.float64(1 / 6), 0.5 + rounding(call.operation))
        return operation

    def window(self, call: Call) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Return the window and strides of an average pooling that is a depthwise convolution in the file."""
        if not self.static or self.kind != "tflite" or call in self.floating or not call.inputs:
            return None
        return depthwise_window(innermost(call.operation), call.inputs[0].shape)

    def affine_map(self, call: Call, scale: Any, offset: Any) -> AffineMap | ScalarMap:
        channels = call.inputs[0].shape[-1]
        name = self.name(call.operation.name + "_map")
        grid = self.grid(call.inputs[0])
        scale, offset = np.asarray(scale), np.asarray(offset)
        scales = (np.inf if grid is None else grid.scale, self.least_scale(call))
        if product_and_sum(np, (scale, offset), channels, scales, self.kind):
            assert grid is not None
            return ScalarMap(float(np.squeeze(scale)), float(np.squeeze(offset)), grid, name=name)
        scale, offset = (np.broadcast_to(part, (channels,)) for part in (scale, offset))
        return self.materialized.constant(AffineMap(scale, offset, name=name), axis=2)

    def quantized(self, call: Call, x: Any) -> Any:
        """Return a tensor behind the constant quantizer of a call."""
        averaged = not call.keywords.get("observe", True)
        before = self.graph.producer(call.inputs[0])
        if averaged and self.kind == "onnx" and before and name_of(before.operation) in RESIZING:
            x = keras.ops.add(x, np.float32(UP * call.operation.scale))  # TFLite's kernel rounds so by itself
        return self.quantizer(call.operation, name_of_call(call, self.graph))(x)

    @staticmethod
    def quantizer(layer: ActivationQuantizer, name: str) -> FixedQuantizer:
        """Return the constant quantizer for one that was calibrated."""
        low, high = layer.range
        return FixedQuantizer(low, high, layer.spec.bits, layer.spec.symmetric, name=name)

    def same_range(self, call: Call, given: Any) -> Any:
        """Give the inputs of a concatenation or maximum without a quantizer of their own the range of its output."""
        quantizers = self.behind(call.outputs[0])
        if not quantizers:
            return given
        tensors = keras.tree.flatten(given)
        old = keras.tree.flatten((call.arguments, call.keywords))
        places = [at for at, x in enumerate(old) if keras.utils.is_keras_tensor(x)]
        for index, at in enumerate(places):
            if not self.on_grid(old[at]):
                name = self.name(f"{quantizers[0].name}_{index}")
                tensors[at] = self.quantizer(quantizers[0], name)(tensors[at])
        return keras.tree.pack_sequence_as(given, tensors)

    def on_its_grid(self, layer: CompressedLayer, plain: Any, outputs: Any) -> Any:
        """Put a quantizer with the range of an embedding's rows, as they are in the plain layer, behind them."""
        limit = float(np.abs(read(plain.embeddings)).max())
        wanted = [t.activations for _, t in layer.transforms if isinstance(t, WeightQuantizer)]
        bits = next(
            (spec.bits for spec in wanted if spec is not None), self.scheme.activation_bits if self.scheme else 8
        )
        name = self.name(f"{layer.name}_quantizer")
        return FixedQuantizer(-limit, limit, bits, True, name=name)(outputs)


def _tensor(arguments: tuple[Any, ...]) -> Any:
    """Return the one tensor among the arguments of an affine map; the others are constants."""
    return next(filter(keras.utils.is_keras_tensor, arguments))
