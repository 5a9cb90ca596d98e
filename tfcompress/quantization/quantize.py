"""Quantizing a model: calibrated, then trained if that is wanted; one and the same object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras
from keras.layers import Layer

from tfcompress.core.arguments import check_flags
from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.core.replicas import place_of
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.core.wrappers import warn_of_remarks
from tfcompress.data.model_batches import again, check_batch_size, shapes_of
from tfcompress.data.unscaled_pixels import warn_of_pixels
from tfcompress.graph import LayerChoice, check_built, kernel_positions, rebuild
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.flatten import opened
from tfcompress.graph.inputs.declared import inputs_given, takes_inputs
from tfcompress.graph.keras_quantized import check_floats
from tfcompress.graph.lora import merge_lora
from tfcompress.graph.naming import keep_output_names
from tfcompress.graph.selectors import Layers
from tfcompress.quantization.automatic import AUTO, widths
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.graph.affine_maps import warn_of_float
from tfcompress.quantization.graph.batch_norm_folding import fold_graph
from tfcompress.quantization.graph.chosen_arithmetic import check_arithmetic, set_arithmetic
from tfcompress.quantization.graph.computed_kernels import keep_computed
from tfcompress.quantization.graph.decompose import lower
from tfcompress.quantization.graph.float16_grids import warn_of_lost_grids
from tfcompress.quantization.graph.float_layers import with_float_outputs
from tfcompress.quantization.graph.insert_quantizers import insert_quantizers
from tfcompress.quantization.graph.layer_precisions import (
    LayerPrecisions,
    chosen_layers,
)
from tfcompress.quantization.graph.weight_blocks import check_blocks
from tfcompress.quantization.imbalance.detection import resolve_imbalance
from tfcompress.quantization.imbalance.late_data import warn_of_raw
from tfcompress.quantization.imbalance.placed_graph import Includes
from tfcompress.quantization.preconditions import (
    check_data,
    check_finite,
    warn_without_integers,
    warn_without_kernels,
)
from tfcompress.quantization.ptq import batch_norm_reestimation, bias_correction
from tfcompress.quantization.ptq.calibration import find_ranges
from tfcompress.quantization.ptq.equalization import equalize_graph
from tfcompress.quantization.ptq.layer_rounding import round_weights
from tfcompress.quantization.ptq.rounding_methods import Rounding, rounding_of
from tfcompress.quantization.quantize_config import QuantizeConfig
from tfcompress.quantization.weights.float16 import Float16Weight
from tfcompress.quantization.weights.uniform import WeightQuantizer
from tfcompress.targets import Target
from tfcompress.targets import get as get_target


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
    rounding: str | Rounding = "nearest",
    batch_size: int = 32,
    size: int | str | None = None,
    formats: Any = None,
    input_shapes: Any = None,
    input_dtypes: Any = None,
    arithmetic: str | None = None,
    target: str | os.PathLike[str] | Target | None = None,
) -> keras.Model:
    """Return a model like `model` that computes as its quantized file will.

    With calibration data that is post-training quantization: `tfcompress.evaluate` it, export it. `fit` it, and that
    is quantization-aware training. Without data the ranges of activations are learned in training alone.

    Args:
        model: A built Keras model of any kind, plain or pruned; it is not changed. The masks of a pruned one stay.
        config: A recipe, "int8", "int8_per_tensor", "int8_weights", "dynamic_int8", "int16x8", "w4a8", "int4_weights",
            "int4_blockwise", "int2_weights", "dynamic_int4" or "float16"; or a `QuantizeConfig`. Or one for each layer
            (`tfc.LayerConfigs`): {name, regular expression, class or function: config or `None`}, of which the first
            key that matches a layer counts. A layer without a kernel that no key matches has the config of what is
            before it; what is computed together, as a convolution with batch normalization and ReLU, that of the
            kernel. Between layers of 8 and 16 bits tensors are quantized again. Or "auto": a width for each layer,
            float, 16, 8, 4, 3 or 2 bits, so that the file is no larger than `size` and the loss rises least by it.
        data: A few hundred samples to calibrate with, as `tfcompress.calibrate` takes them; recipes without ranges need
            none.
        layers: Which layers are quantized: `None` for all; a name or regular expression, or several; or a function
            from a layer to bool. A choice of layers with kernels alone leaves it at that: what has none, such as a
            ReLU or a Concatenate, goes along. One that is true of any other layer (the model's inputs count) holds for
            all: what it is false of stays float, with a kernel or without, as in `lambda layer: layer.name != "boxes"`.
        equalize: Whether to equalize the channels of neighbouring kernels first (`quantization.ptq.equalization`).
        correct_bias: Whether to correct biases for what quantization shifts (`quantization.ptq.bias_correction`).
        reestimate_batch_norm: Whether to compute the statistics of batch normalization anew under quantized weights.
        rounding: How weights are rounded: "nearest"; "adaround", up or down, by what makes the least error of each
            layer's outputs on `data`; "gptq", one input after the other; or a `tfc.AdaRound(steps=...)` or
            `tfc.GPTQ(...)`, whose `folder` keeps each layer as soon as it is done. Of 4 bits and less that is worth
            points. Bars on a terminal show how far it is.
        batch_size: Samples in a batch, where `data` holds arrays, as `tfcompress.calibrate` takes it.
        size: With "auto": how large a file of each of `formats` may be, in bytes or as "200kB", "1.5MB". It holds for
            `tfc.export(..., weights="auto")` to `.onnx` and `tfc.export(..., prefer="size")` to `.tflite`, and was
            checked with such files. What the layers get is `tfc.allocate(...).table()`.
        formats: With "auto": "tflite", "onnx" or both; `None`: both, so that the larger of the two counts.
        input_shapes: Sizes of the model's free dimensions to try it with, where those that are tried by themselves
            won't do: a shape, a list of them or a dict by input name, with the batch (None) or without. Of a
            subclassed model that recorded no shapes, its shapes.
        input_dtypes: Of a subclassed model, which keeps none: such as "int32", or one for each input.
        arithmetic: Whose rounding inference has, to the last bit, between activations of 8 bits: "xnnpack", LiteRT's
            kernels on processors; "reference", TFLite Micro's; "onnxruntime"; `None`: as the config's
            `ActivationSpec` says, "xnnpack" by itself. Training is the same for all.
        target: What the file is for, as `tfc.export` takes it: its arithmetic is that of inference unless `arithmetic`
            says another; and for one whose files take integers, such as "microcontroller", nothing is kept float for
            channels that differ too much in size: a warning says what they lose.

    Returns:
        A functional model with the same names of inputs and outputs, not compiled. Low-rank additions to weights
        (`layer.enable_lora`) are part of its weights.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model isn't built, can't be opened, is quantized already or has nothing to quantize; if
            `config` is unknown or has blocks that fit no layer, `layers` matches nothing, a weight isn't finite, the
            data doesn't serve, or `batch_size` isn't an integer of at least 1.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> dense = keras.layers.Dense(4, activation="relu", name="dense")
    >>> model = keras.Sequential([keras.Input((8,), name="x"), dense])
    >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    >>> quantized = tfc.quantize(model, "int8", data=x)
    >>> [layer.name for layer in quantized.layers][1:4]
    ['x_quantizer', 'dense_linear', 'dense_relu']
    """
    options = {"equalize": equalize, "correct_bias": correct_bias, "reestimate_batch_norm": reestimate_batch_norm}
    check_flags(**options)
    check_batch_size(batch_size)
    machine = None if target is None else get_target(target)
    if arithmetic is None and machine is not None:
        arithmetic = machine.arithmetic
    if arithmetic is not None:
        check_arithmetic(arithmetic)
    method = rounding_of(rounding)
    if isinstance(config, str) and config == AUTO:
        data = again(data)
    config = widths(config, model, data, size, formats, layers=layers, batch_size=batch_size, **options)
    configs = LayerConfigs.given(config)
    single = None if configs is not None else QuantizeConfig.get(config)
    choice = LayerChoice(layers)
    check_built(model)
    check_data(data, correct_bias=correct_bias, reestimate_batch_norm=reestimate_batch_norm)
    if method is not None and data is None:
        raise ValueError(f"Expected data with rounding={rounding!r}. Received: None. Give data to round by.")
    _check_not_quantized(model)
    warn_of_remarks(model)
    data = again(data)
    with place_of(model), inputs_given(shapes_of(model, data)):
        how = {"equalize": equalize, "keep_reference": correct_bias or method is not None}
        how["integers_only"] = machine is not None and (machine.integers_only or machine.integer_io != "float32")
        flat = opened(model)
        merge_lora(flat.layers)
        check_finite(flat.layers)
        chosen, precisions = chosen_layers(flat, choice, configs, single)
        warn_without_kernels(precisions)
        quantized, reference = _quantized(flat, precisions, chosen, data, batch_size, **how)
        if arithmetic is not None:
            set_arithmetic(quantized, arithmetic)
        warn_without_integers(quantized)
        warn_of_lost_grids(quantized)
        for wrapper in wrapped_layers(quantized):
            for _, transform in wrapper.transforms:
                if isinstance(transform, WeightQuantizer):
                    transform.fit(wrapper.value_before(transform))
        if data is not None and any(q.learns for q in activation_quantizers(quantized)):
            warn_of_pixels(model, find_ranges(quantized, data, batch_size))
            warn_of_float(quantized)
        if reference is not None and method is not None:
            round_weights(quantized, reference, data, method, batch_size)
        if reestimate_batch_norm:
            batch_norm_reestimation.reestimate_batch_norm(quantized, data, batch_size=batch_size)
        if reference is not None and correct_bias:
            bias_correction.correct_bias(quantized, reference, data, batch_size)
    return quantized


def _quantized(
    flat: FlatGraph,
    precisions: LayerPrecisions,
    chosen: dict[str, bool],
    data: Any,
    batch_size: int,
    *,
    equalize: bool,
    keep_reference: bool,
    integers_only: bool,
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
    reference = rebuild(flat.model()) if keep_reference else None

    def includes(layer: Any) -> bool:
        names = (layer.name, *getattr(layer, "source_names", ()))
        return next((chosen[name] for name in names if name in chosen), True)

    names = flat.output_names
    included: Includes
    lowered, included = keep_computed(lower(flat, includes, precisions.static), precisions, includes)
    apart: frozenset[str] = frozenset()
    if precisions.static:
        lowered, included, apart = resolve_imbalance(
            lowered, precisions, included, data, batch_size, integers_only=integers_only
        )
    elif data is not None and not precisions.common.float16:
        warn_of_raw(lowered, precisions, included, data, batch_size)
    check_blocks(lowered, precisions, included)
    inserted = insert_quantizers(lowered, precisions, included, apart)
    made = keep_output_names(with_float_outputs(inserted), names).model()
    if not is_quantized(made):
        raise ValueError(
            f"Expected a model with layers to quantize. Received: {lowered.name!r}, in which none that is meant has a "
            "kernel."
        )
    return made, reference


def is_quantized(model: keras.Model) -> bool:
    """Return whether a model has quantizers, of weights or of activations."""
    return bool(activation_quantizers(model)) or any(
        isinstance(transform, WeightQuantizer | Float16Weight)
        for layer in wrapped_layers(model)
        for _, transform in layer.transforms
    )


def _check_not_quantized(model: keras.Model) -> None:
    if is_quantized(model):
        raise ValueError(
            f"Expected a model that isn't quantized yet. Received: {model.name!r}, which is. Calibrate it with "
            "tfcompress.calibrate or train it; or strip it first (tfcompress.strip) to quantize it anew."
        )
    check_floats(model, "Quantize")
