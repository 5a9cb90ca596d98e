"""Quantizing a model: calibrated, then trained if that is wanted; one and the same object."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import keras
from keras.layers import Layer

from tfcompress.core.arguments import check_flags
from tfcompress.core.keras_private import producer
from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.core.replicas import place_of
from tfcompress.core.wrapper import CompressedLayer, warn_of_remarks, with_transforms, wrapped_layers
from tfcompress.data.model_batches import again, check_batch_size, shapes_of
from tfcompress.graph import LayerChoice, check_built, kernel_positions, rebuild
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.graph.index import index_of
from tfcompress.graph.inputs.declared import inputs_given, takes_inputs
from tfcompress.graph.keras_quantized import check_floats
from tfcompress.graph.lora import merge_lora
from tfcompress.graph.naming import free, keep_output_names
from tfcompress.graph.rewrite import Call, walk
from tfcompress.graph.selectors import Layers
from tfcompress.layers.kernel_layouts import channel_axes
from tfcompress.layers.names import base_name_of, name_of
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer, activation_quantizers
from tfcompress.quantization.graph.affine_maps import QuantizedMap, warn_of_float
from tfcompress.quantization.graph.attention_masks import is_scored
from tfcompress.quantization.graph.batch_norm_folding import fold_graph
from tfcompress.quantization.graph.batch_norm_freezing import FreezingBatchNorm
from tfcompress.quantization.graph.bias_rounding import QuantizedLayer
from tfcompress.quantization.graph.channel_slices import layer_of, tensors_of
from tfcompress.quantization.graph.computed_kernels import keep_computed
from tfcompress.quantization.graph.decompose import lower
from tfcompress.quantization.graph.float16_grids import warn_of_lost_grids
from tfcompress.quantization.graph.float_inputs import Unrounded
from tfcompress.quantization.graph.float_layers import LEFT_OUT, WEIGHTS_ALONE, KeptFloat, with_float_outputs
from tfcompress.quantization.graph.layer_precisions import (
    BY_ITS_CONFIG,
    LayerPrecisions,
    chosen_layers,
    is_left_alone,
)
from tfcompress.quantization.graph.op_policies import AFFINE, INTEGER, KERNEL, RELU, TABLE, TRANSPARENT
from tfcompress.quantization.graph.placement import NOT_CHOSEN, ONLY_WEIGHTS, Placement, place
from tfcompress.quantization.graph.quantizer_sources import reached_by_input
from tfcompress.quantization.imbalance.detection import Includes, mend
from tfcompress.quantization.imbalance.late_data import warn_of_raw
from tfcompress.quantization.preconditions import check_data, check_finite, warn_without_integers
from tfcompress.quantization.ptq import bias_correction
from tfcompress.quantization.ptq.batch_norm_reestimation import reestimate_batch_norms
from tfcompress.quantization.ptq.calibration import find_ranges
from tfcompress.quantization.ptq.equalization import equalize_graph
from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.quantization.weights.float16 import Float16Weight
from tfcompress.quantization.weights.uniform import WeightQuantizer

MARGIN = 1 / 254
"""Share by which a learned range around zero is widened where an input reaches it, which may be pixels / 127.5 - 1."""


@accepts_old_calls(names={"calibration_data": "data"})
@takes_inputs
def quantize(
    model: keras.Model,
    config: str | QuantizeConfig | LayerConfigs | Mapping[Any, Any] = "int8",
    data: Any = None,
    layers: Layers = None,
    *,
    equalize: bool = False,
    correct_bias: bool = False,
    reestimate_batch_norm: bool = False,
    batch_size: int = 32,
    input_shapes: Any = None,
    input_dtypes: Any = None,
) -> keras.Model:
    """Return a model like `model` that computes as its quantized file will.

    With calibration data that is post-training quantization: `tfcompress.evaluate` it, export it. `fit` it, and that
    is quantization-aware training. Without data the ranges of activations are learned in training alone.

    Args:
        model: A built Keras model of any kind, plain or pruned; it is not changed. The masks of a pruned one stay.
        config: A recipe, "int8", "int8_per_tensor", "int8_weights", "dynamic_int8", "int16x8" or "float16"; or a
            `QuantizeConfig`. Or one for each layer (`tfc.LayerConfigs`): {name, regular expression, class or function:
            config or `None`}, of which the first key that matches a layer counts. A layer without a kernel that no
            key matches has the config of what is before it; what is computed together, as a convolution with batch
            normalization and ReLU, that of the kernel. Between layers of 8 and 16 bits tensors are quantized again.
        data: A few hundred samples to calibrate with, as `tfcompress.calibrate` takes them; recipes without ranges need
            none.
        layers: Which layers are quantized: `None` for all; a name or regular expression, or several; or a function
            from a layer to bool. A choice of layers with kernels alone leaves it at that: what has none, such as a
            ReLU or a Concatenate, goes along. One that is true of any other layer (the model's inputs count) holds for
            all: what it is false of stays float, with a kernel or without, as in `lambda layer: layer.name != "boxes"`.
        equalize: Whether to equalize the channels of neighbouring kernels first (`quantization.ptq.equalization`).
        correct_bias: Whether to correct biases for what quantization shifts (`quantization.ptq.bias_correction`).
        reestimate_batch_norm: Whether to compute the statistics of batch normalization anew under quantized weights.
        batch_size: Samples in a batch, where `data` holds arrays, as `tfcompress.calibrate` takes it.
        input_shapes: Sizes of the model's free dimensions to try it with, where those that are tried by themselves
            won't do: a shape, a list of them or a dict by input name, with the batch (None) or without. Of a
            subclassed model that recorded no shapes, its shapes.
        input_dtypes: Of a subclassed model, which keeps none: such as "int32", or one for each input.

    Returns:
        A functional model with the same names of inputs and outputs, not compiled. Low-rank additions to weights
        (`layer.enable_lora`) are part of its weights.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model isn't built, can't be opened, is quantized already or has nothing to quantize; if
            `config` is unknown, `layers` matches nothing, a weight isn't finite, the data doesn't serve, or
            `batch_size` isn't an integer of at least 1.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> dense = keras.layers.Dense(4, activation="relu", name="dense")
    >>> model = keras.Sequential([keras.Input((8,), name="x"), dense])
    >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    >>> quantized = tfc.quantize(model, "int8", data=x)
    >>> [layer.name for layer in quantized.layers][1:4]
    ['x_quantizer', 'dense_linear', 'dense_relu']
    """
    configs = LayerConfigs.given(config)
    single = None if configs is not None else QuantizeConfig.get(config)
    choice = LayerChoice(layers)
    check_flags(equalize=equalize, correct_bias=correct_bias, reestimate_batch_norm=reestimate_batch_norm)
    check_built(model)
    check_batch_size(batch_size)
    check_data(data, correct_bias=correct_bias, reestimate_batch_norm=reestimate_batch_norm)
    _check_not_quantized(model)
    warn_of_remarks(model)
    data = again(data)
    with place_of(model), inputs_given(shapes_of(model, data)):
        how = {"equalize": equalize, "keep_reference": correct_bias}
        flat = rebuild(model)
        merge_lora(flat)
        check_finite(flat)
        chosen, precisions = chosen_layers(flat, choice, configs, single)
        quantized, reference = _quantized(flat, precisions, chosen, data, batch_size, **how)
        warn_without_integers(quantized)
        warn_of_lost_grids(quantized)
        for wrapper in wrapped_layers(quantized):
            for _, transform in wrapper.transforms:
                if isinstance(transform, WeightQuantizer):
                    transform.fit(wrapper.value_before(transform))
        if data is not None and any(q.learns for q in activation_quantizers(quantized)):
            find_ranges(quantized, data, batch_size)
            warn_of_float(quantized)
        if reestimate_batch_norm:
            reestimate_batch_norms(quantized, data, batch_size)
        if reference is not None:
            bias_correction.correct_bias(quantized, reference, data, batch_size)
    return quantized


def _quantized(
    flat: keras.Model,
    precisions: LayerPrecisions,
    chosen: dict[str, bool],
    data: Any,
    batch_size: int,
    *,
    equalize: bool,
    keep_reference: bool,
) -> tuple[keras.Model, keras.Model | None]:
    """Return the model with quantizers whose ranges are still to be found, and the float model if it is kept."""
    kernels = {layer.name for layer in flat.layers if kernel_positions(layer)}

    def per_tensor(layer: Layer) -> bool:
        config = precisions.of(layer)
        return config.weights.granularity == "per_tensor" and not config.float16

    whole = {layer.name for layer in flat.layers if layer.name in kernels and chosen[layer.name] and per_tensor(layer)}
    if equalize or whole:

        def stays(layer: Layer) -> bool:
            if layer.name in kernels:
                return not equalize and bool(precisions.own) and layer.name not in whole
            return not chosen.get(layer.name, True)

        flat = fold_graph(flat, LayerChoice(stays))  # one scale for all channels holds for the folded kernel alone
        if equalize:
            flat = equalize_graph(flat)
    # Splitting changes the layers, and biases are compared with those of before.
    reference = rebuild(flat) if keep_reference else None

    def includes(layer: Any) -> bool:
        names = (layer.name, *getattr(layer, "source_names", ()))
        return next((chosen[name] for name in names if name in chosen), True)

    names = list(flat.output_names)
    included: Includes
    lowered, included = keep_computed(lower(flat, includes), precisions, includes)
    apart: frozenset[str] = frozenset()
    if precisions.static:
        lowered, included, apart = mend(lowered, precisions, included, data, batch_size)
    elif data is not None and not precisions.common.float16:
        warn_of_raw(lowered, precisions, included, data, batch_size)
    return keep_output_names(_Inserter(lowered, precisions, included, apart).run(), names), reference


def is_quantized(model: keras.Model) -> bool:
    """Return whether a model has quantizers, of weights or of activations."""
    return bool(activation_quantizers(model)) or any(
        isinstance(transform, WeightQuantizer | Float16Weight)
        for layer in wrapped_layers(model)
        for _, transform in layer.transforms
    )


class _Inserter:
    """Wraps kernels and puts quantizers behind tensors, as a placement says."""

    def __init__(self, model: keras.Model, precisions: LayerPrecisions, includes: Any, apart: Collection[str]):
        self.model = model
        self.precisions = precisions
        self.includes = includes
        self.graph = index_of(model)
        self.configs = precisions.of_calls(self.graph)
        configs = None if precisions.common.float16 else self.configs
        self.placement: Placement = place(self.graph, configs, includes, apart)
        self.names = {call.operation.name for call in self.graph} | {x.name for x in model.inputs}
        self.layers: dict[int, Layer] = {}
        self.wrapped: dict[int, Layer] = {}
        self.quantizers: dict[int, ActivationQuantizer] = {}
        self.again: dict[tuple[int, QuantizeConfig], Any] = {}
        self.crossed: dict[tuple[int, QuantizeConfig], ActivationQuantizer] = {}
        self.raw = Unrounded(self.graph, self.placement, apart)

    def run(self) -> keras.Model:
        made = walk(self.model, self.visit, self.enter)
        if not is_quantized(made):
            raise ValueError(
                f"Expected a model with layers to quantize. Received: {self.model.name!r}, in which none that is "
                "meant has a kernel."
            )
        return with_float_outputs(made)

    def enter(self, x: Any) -> Any:
        return x if self.on_demand else self.quantizer(x, x, x.name)

    @property
    def on_demand(self) -> bool:
        return self.precisions.dynamic

    def visit(self, call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        arguments, keywords = self.raw.given(call, arguments, keywords)
        arguments, keywords = self.crossing(call, arguments, keywords)
        operation = self.wrap(call)
        if operation is not call.operation and not isinstance(call.operation, Layer):
            arguments, keywords = tensors_of(arguments, keywords), {}
        if self.on_demand and self.placement.rules[call].kind == KERNEL:
            old, config = call.inputs[0], self.configs[call]
            if id(old) in self.placement.tensors:  # only this reader sees the quantized tensor
                key = id(old), config
                if key not in self.again:
                    self.again[key] = self.inserted(old, arguments[0], call.operation.name, config)(arguments[0])
                arguments = (self.again[key], *arguments[1:])
        outputs = operation(*arguments, **keywords)
        if self.on_demand:
            return outputs
        flat = keras.tree.flatten(outputs)
        made = [self.quantizer(old, new, call.operation.name) for old, new in zip(call.outputs, flat, strict=True)]
        return keras.tree.pack_sequence_as(outputs, made)

    def crossing(
        self, call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call, those quantized again that are on a grid of other bits."""
        configs = self.placement.crossings.get(call)
        if configs is None:
            return arguments, keywords

        def crossed(old: Any, new: Any) -> Any:
            if not keras.utils.is_keras_tensor(old) or id(old) not in configs:
                return new
            key = id(old), configs[id(old)]
            if key not in self.again:
                source = str(producer(old).name)
                self.crossed[key] = self.inserted(old, new, source, configs[id(old)], again=True)
                self.again[key] = self.crossed[key](new)
            return self.again[key]

        given = tuple(call.arguments), dict(call.keywords)
        both = keras.tree.map_structure(crossed, given, (tuple(arguments), dict(keywords)))
        return tuple(both[0]), dict(both[1])

    def quantizer(self, old: Any, new: Any, source: str) -> Any:
        """Put a quantizer behind a tensor of the new graph, if the old one is in the placement."""
        if id(old) not in self.placement.tensors:
            return new
        maker = self.graph.producer(old)
        if maker is not None and self.placement.rules[maker].same:
            before = self.quantizer_of(maker.inputs[0], self.placement.configs[id(old)])
            if before is not None:
                self.quantizers[id(old)] = before
                return before(new, observe=False)
        self.raw.note(old, new)
        self.quantizers[id(old)] = self.inserted(old, new, source, self.placement.configs[id(old)])
        return self.quantizers[id(old)](new)

    def inserted(
        self, old: Any, new: Any, source: str, config: QuantizeConfig, again: bool = False
    ) -> ActivationQuantizer:
        """Return a new quantizer for a tensor; `again`: for one that is on another grid already."""
        assert config.activations is not None
        maker = self.graph.producer(old)
        name = free(f"{source}_quantizer", self.names)
        self.names.add(name)
        return ActivationQuantizer(
            config.activations,
            fixed=None if again else self.placement.tensors[id(old)],
            freeze_step=config.freeze_ranges_step,
            source=source,
            margin=self.margin(old),
            nonnegative=maker is not None and self.placement.rules[maker].kind == RELU,
            scores=is_scored(old, self.graph, lambda one: self.placement.rules[one].kind),
            name=name,
        )

    def quantizer_of(self, x: Any, config: QuantizeConfig) -> ActivationQuantizer | None:
        """Return the quantizer of a tensor, or of what it is moved from, where something with a config reads it."""
        if (id(x), config) in self.crossed:
            return self.crossed[id(x), config]
        maker = self.graph.producer(x)
        if id(x) in self.quantizers or maker is None or self.placement.rules[maker].kind != TRANSPARENT:
            return self.quantizers.get(id(x))
        return self.quantizer_of(maker.inputs[0], config)

    def margin(self, x: Any) -> float:
        """Return by how much a range of a tensor that is learned without calibration is widened.

        What maps whole numbers to a symmetric range, as pixels to -1..1, puts each of them between two integers.
        """
        return MARGIN if reached_by_input(x, self.graph.producer) else 0.0

    def wrap(self, call: Call) -> Any:
        layer = call.operation
        if not isinstance(layer, Layer):
            if not self.is_map(call):
                return layer
            layer = self.layers.setdefault(id(layer), layer_of(call))
        if id(layer) not in self.wrapped:
            self.wrapped[id(layer)] = self.wrapper(layer, call)
            if self.is_map(call):
                self.wrapped[id(layer)] = QuantizedMap(self.wrapped[id(layer)], self.configs[call].weights.bits)
                self.wrapped[id(layer)].build()
        return self.wrapped[id(layer)]

    def is_map(self, call: Call) -> bool:
        """Return whether a call becomes a depthwise convolution, whose offset is rounded."""
        rule, integer = self.placement.rules[call], bool(self.placement.tensors) and not self.on_demand
        if isinstance(call.operation, CompressedLayer) or not integer:
            return False
        hard = rule.kind == INTEGER and name_of(call.operation) == "hardsigmoid"
        return hard or (rule.kind == AFFINE and call not in self.placement.folded)

    def wrapper(self, layer: Layer, call: Call) -> Layer:
        rule = self.placement.rules[call]
        wrapped = self.transformed(layer, call)
        if rule == ONLY_WEIGHTS:
            reason = WEIGHTS_ALONE
        elif rule == NOT_CHOSEN and not kernel_positions(layer) and self.placement.tensors:
            reason = BY_ITS_CONFIG if is_left_alone(layer, self.precisions) else LEFT_OUT
        else:
            return wrapped
        kept = KeptFloat(wrapped, reason)
        kept.build()
        return kept

    def transformed(self, layer: Layer, call: Call) -> Layer:
        config, kind = self.configs[call], self.placement.rules[call].kind
        step = config.freeze_batch_norm_step
        if step is not None and base_name_of(layer) == "batchnormalization":
            frozen = FreezingBatchNorm(layer, step)
            frozen.build()
            return frozen
        positions = kernel_positions(layer)
        if not positions or not self.includes(layer):
            return layer
        if config.float16:
            return with_transforms(layer, [(position, Float16Weight()) for position in positions])
        per_channel = config.weights.granularity == "per_channel" and kind != TABLE
        return with_transforms(
            layer,
            [
                (
                    position,
                    WeightQuantizer(
                        config.weights, channel_axes(layer, position) if per_channel else None, config.activations
                    ),
                )
                for position in positions
            ],
            QuantizedLayer if kind == KERNEL and call not in self.placement.alone else None,
        )


def _check_not_quantized(model: keras.Model) -> None:
    if is_quantized(model):
        raise ValueError(
            f"Expected a model that isn't quantized yet. Received: {model.name!r}, which is. Calibrate it with "
            "tfcompress.calibrate or train it; or strip it first (tfcompress.strip) to quantize it anew."
        )
    check_floats(model, "Quantize")
