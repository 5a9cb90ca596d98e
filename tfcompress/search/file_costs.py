"""What each choice for each layer takes of a file: by the forms in which the exporters store weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfcompress.core.wrappers import inner_weights
from tfcompress.export.artifact import Artifact
from tfcompress.export.onnx.weights.choice import smallest
from tfcompress.export.onnx.weights.form import Weight
from tfcompress.export.tflite.weights.packed_integers import BITS
from tfcompress.export.tflite.weights.storage import DYNAMIC, SIZE, UNPACKED, choose
from tfcompress.layers.catalogue import traits_of_base
from tfcompress.layers.kernel_layouts import layout_of, owner_of
from tfcompress.quantization.encoding import Affine
from tfcompress.quantization.quantize_config import ActivationSpec, QuantizeConfig
from tfcompress.search.changed_kernels import Unit
from tfcompress.search.choices import Choice
from tfcompress.search.scores import Stored

OPSET = 18
"""Of the ONNX files whose forms count."""

EXPORT: dict[str, dict[str, Any]] = {"tflite": {"prefer": SIZE}, "onnx": {"weights": "auto", "opset": OPSET}}
"""How `tfc.export` is called for files whose size counts: in the smallest forms that there are."""

Costs = dict[str, dict[Choice, int]]
"""{layer: {choice: bytes of the file}}."""


def file_costs(kind: str, units: Sequence[Unit], stored: Stored, base: QuantizeConfig) -> Costs:
    """Return the bytes of each choice for each layer, of its kernels and their scales alone.

    Args:
        kind: "tflite" or "onnx".
        units: The layers.
        stored: What a file stores of them.
        base: How layers are quantized but for the bits.
    """
    found: Costs = {}
    for unit in units:
        found[unit.name] = {}
        for choice, kernels in stored[unit.name].items():
            config = choice.quantize(base)
            activations = None if config is None else config.activations
            found[unit.name][choice] = sum(
                _bytes(kind, layer, position, encoded, activations)
                for (layer, position), encoded in zip(unit.kernels, kernels, strict=True)
            )
    return found


def _bytes(kind: str, layer: Any, position: int, encoded: Affine | None, activations: ActivationSpec | None) -> int:
    if encoded is None:
        return 4 * math.prod(inner_weights(layer)[position].shape)
    scales = 4 * encoded.scale.size
    if kind == "onnx":
        return smallest(Weight(encoded.integers), OPSET)[0] + scales
    return scales + math.ceil(encoded.integers.size * _tflite_bits(layer, position, encoded, activations) / 8)


def _tflite_bits(layer: Any, position: int, encoded: Affine, activations: ActivationSpec | None) -> int:
    """Return the bits of the type that a TFLite file has for a kernel, by the operator that it is likely read by."""
    owner = owner_of(layer, position)
    operators = _operators(owner, tuple(inner_weights(layer)[position].shape))
    kind = UNPACKED if activations is None else DYNAMIC if activations.dynamic else f"INT{activations.bits}"
    _, inputs, outputs = layout_of(layer, position).matrices
    like = Affine(
        np.broadcast_to(np.int8(0), (outputs, inputs)),
        np.ones((1 if encoded.scale.size == 1 else outputs, 1), np.float32),
        bits=encoded.bits,
    )
    return min((choose(one, kind, like, SIZE).bits for one in operators), default=8)


def _operators(owner: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    traits = traits_of_base(owner)
    if traits.multiplications in ("dense", "einsum_dense"):
        return ("FULLY_CONNECTED",)
    if traits.channels == "depthwise":
        return ("DEPTHWISE_CONV_2D",)
    if traits.multiplications != "convolution" or len(shape) > 4 or getattr(owner, "groups", 1) not in (None, 1):
        return ()
    strides = owner.strides if isinstance(owner.strides, tuple | list) else (owner.strides,)
    pixels = all(size == 1 for size in (*shape[:-2], *strides))
    return ("CONV_2D", "FULLY_CONNECTED") if pixels else ("CONV_2D",)


def measured(artifact: Artifact, layer_of: Mapping[str, str], costs: Costs, chosen: Mapping[str, Choice]) -> Costs:
    """Return costs in which those of the choices that a file was made with are what it took.

    Args:
        artifact: The file.
        layer_of: {layer of the quantized model: layer whose choice it has}.
        costs: As known before.
        chosen: {layer: its choice}.
    """
    found = {name: dict(each) for name, each in costs.items()}
    if artifact.format == "onnx":
        taken: dict[str, int] = {}
        for weight in artifact.weights:
            if weight.layer in layer_of:
                name = layer_of[weight.layer]
                taken[name] = taken.get(name, 0) + weight.nbytes
        for name, nbytes in taken.items():
            found[name][chosen[name]] = nbytes
        return found
    narrow = artifact.operators.narrow if artifact.operators else ()
    for one in narrow:
        if one.layer not in layer_of:
            continue
        each = found[layer_of[one.layer]]
        bits = max(BITS.get(kind.strip().upper(), 8) for kind in one.type.split(","))
        for choice in each:
            if choice.weight_bits == one.bits:
                each[choice] = max(each[choice], _at(each, bits))
    return found


def _at(each: Mapping[Choice, int], bits: int) -> int:
    """Return what a layer takes with a type of so many bits; 0 where no choice says it."""
    return max((nbytes for choice, nbytes in each.items() if choice.weight_bits == bits), default=0)
