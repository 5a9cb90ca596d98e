"""Quantization status per operator: integer, folded, fused, or a float fallback."""

from __future__ import annotations

import dataclasses

import keras

from tfcompress.core.passthrough import innermost
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.graph.index import index_of
from tfcompress.graph.inputs.symbolic import is_graph
from tfcompress.graph.rewrite import Call
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer, wanted_activations
from tfcompress.quantization.graph.affine_maps import FLOAT as FLOAT_MAP
from tfcompress.quantization.graph.affine_maps import QuantizedMap
from tfcompress.quantization.graph.float_layers import WEIGHTS_ALONE, kept_reason
from tfcompress.quantization.graph.op_policies import AFFINE, CONCATENATE, FLOAT, KERNEL, RELU, TABLE, TRANSPARENT
from tfcompress.quantization.graph.placement import Placement, place
from tfcompress.quantization.graph.quantized_layer import QuantizedLayer
from tfcompress.quantization.graph.quantizer_sources import quantizer_of
from tfcompress.quantization.weights.float16 import Float16Weight
from tfcompress.quantization.weights.uniform import WeightQuantizer, keeps_activations


@dataclasses.dataclass(frozen=True)
class OperatorStatus:
    """The quantization status of one layer or operation.

    Attributes:
        name: Of the layer or operation.
        kind: Its class.
        status: In few words.
        fallback: Whether it computes in floating point though activations are quantized.
        quantizer: That of its output; `None` if there is none.
        bits: Of its activations, if these have ranges; 0: they are float.
    """

    name: str
    kind: str
    status: str
    fallback: bool
    quantizer: ActivationQuantizer | None
    bits: int


def operator_status(model: keras.Model) -> dict[int, OperatorStatus]:
    """Return the status of each layer and operation of a quantized model, by id; empty for other models.

    Example:

    >>> import keras, tfcompress as tfc
    >>> layers = [keras.Input((8,)), keras.layers.Dense(4), keras.layers.LayerNormalization(name="norm")]
    >>> quantized = tfc.quantize(keras.Sequential(layers), "int8")
    >>> operator_status(quantized)[id(quantized.get_layer("norm"))].status
    'float fallback: no integer kernel'
    """
    if not is_graph(model):
        return {}
    graph = index_of(model)
    wanted = wanted_activations(model)
    static = wanted is not None and not wanted.dynamic
    usual = wanted.bits if wanted is not None and static else 0
    placement = place(graph)
    found: dict[int, OperatorStatus] = {}
    for call in graph:
        operation = call.operation
        if isinstance(operation, ActivationQuantizer):
            continue
        reading = [one.operation for one in graph.readers_of_call(call)]
        behind = next((one for one in reading if isinstance(one, ActivationQuantizer)), None)
        before = [quantizer_of(x, graph.producer) for x in call.inputs]
        bits = next((one.spec.bits for one in (behind, *before) if one is not None and not one.spec.dynamic), usual)
        weights = isinstance(operation, CompressedLayer) and any(
            isinstance(t, WeightQuantizer | Float16Weight) for _, t in operation.transforms
        )
        status, fallback = _status(call, placement, static=static, weights=weights, behind=behind, bits=bits)
        found[id(operation)] = OperatorStatus(
            operation.name, type(innermost(operation)).__name__, status, fallback, behind, 0 if fallback else bits
        )
    return found


def _status(
    call: Call,
    placement: Placement,
    *,
    static: bool,
    weights: bool,
    behind: ActivationQuantizer | None,
    bits: int,
) -> tuple[str, bool]:
    """Return the status of a call, in few words, and whether it computes in float among integers."""
    rule, operation = placement.rules[call], call.operation
    status, fallback = "", False
    if call in placement.folded:
        status = "folded"
    elif rule.kind in (KERNEL, TABLE) and static and alone(operation):
        status, fallback = f"float: {WEIGHTS_ALONE}", True
    elif rule.kind in (KERNEL, TABLE):
        status, fallback = (rule.note if static else "") if weights else "left float", static and not weights
    elif rule.kind == FLOAT and (static or kept_reason(operation) is not None):
        status, fallback = rule.note, static
    elif isinstance(operation, QuantizedMap) and not operation.fits():
        status, fallback = FLOAT_MAP, True
    elif static and rule.kind == RELU:
        status = f"int{bits}" if behind is not None else "fused"
    elif static and rule.kind == AFFINE:
        status = f"int{bits}, not folded"
    elif static:
        note = f", {rule.note}" if rule.note and rule.kind != CONCATENATE else ""
        status = "moves" if rule.kind == TRANSPARENT else f"int{bits}{note}"
    return status, fallback


def alone(operation: object) -> bool:
    """Return whether weights alone of a kernel are quantized in a model where activations of others have ranges."""
    return keeps_activations(operation) and not isinstance(operation, QuantizedLayer)
