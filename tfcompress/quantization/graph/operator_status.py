"""What became of each call in a quantized model: integer, folded, fused, or a float island."""

from __future__ import annotations

import dataclasses

import keras

from tfcompress.core.wrapper import CompressedLayer
from tfcompress.graph.inputs.symbolic import is_graph
from tfcompress.graph.rewrite import calls
from tfcompress.quantization.graph.affine_maps import FLOAT as FLOAT_MAP
from tfcompress.quantization.graph.affine_maps import QuantizedMap
from tfcompress.quantization.graph.float_layers import kept_reason
from tfcompress.quantization.graph.op_policies import AFFINE, CONCATENATE, FLOAT, KERNEL, RELU, TABLE, TRANSPARENT
from tfcompress.quantization.graph.placement import place
from tfcompress.quantization.quantizers import ActivationQuantizer, Float16Weight, WeightQuantizer, wanted_activations


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What became of one layer or operation.

    Attributes:
        name: Of the layer or operation.
        status: In few words.
        island: Whether it computes in floating point though activations are quantized.
        quantizer: That of its output; `None` if there is none.
    """

    name: str
    status: str
    island: bool
    quantizer: ActivationQuantizer | None


def explain(model: keras.Model) -> dict[int, Explanation]:
    """Return what became of each layer and operation of a quantized model, by id; empty for other models.

    Example:

    >>> import keras, tfcompress as tfc
    >>> layers = [keras.Input((8,)), keras.layers.Dense(4), keras.layers.LayerNormalization(name="norm")]
    >>> quantized = tfc.quantize(keras.Sequential(layers), "int8")
    >>> explain(quantized)[id(quantized.get_layer("norm"))].status
    'float island: no integer kernel'
    """
    if not is_graph(model):
        return {}
    graph = calls(model)
    wanted = wanted_activations(model)
    static = wanted is not None and not wanted.dynamic
    bits = 8 if wanted is None else wanted.bits
    placement = place(graph, model.outputs, None)
    readers: dict[int, list[ActivationQuantizer]] = {}
    for call in graph:
        if isinstance(call.operation, ActivationQuantizer):
            readers.setdefault(id(call.inputs[0]), []).append(call.operation)
    found: dict[int, Explanation] = {}
    for call in graph:
        operation = call.operation
        if isinstance(operation, ActivationQuantizer):
            continue
        rule = placement.rules[call]
        behind = next((q for x in call.outputs for q in readers.get(id(x), [])), None)
        weights = isinstance(operation, CompressedLayer) and any(
            isinstance(t, WeightQuantizer | Float16Weight) for _, t in operation.transforms
        )
        status, island = "", False
        if call in placement.folded:
            status = "folded"
        elif rule.kind in (KERNEL, TABLE):
            status, island = (rule.note if static else "") if weights else "left float", static and not weights
        elif rule.kind == FLOAT and (static or kept_reason(operation) is not None):
            status, island = rule.note, static
        elif isinstance(operation, QuantizedMap) and not operation.fits():
            status, island = FLOAT_MAP, True
        elif static and rule.kind == RELU:
            status = f"int{bits}" if behind is not None else "fused"
        elif static and rule.kind == AFFINE:
            status = f"int{bits}, not folded"
        elif static:
            note = f", {rule.note}" if rule.note and rule.kind != CONCATENATE else ""
            status = "moves" if rule.kind == TRANSPARENT else f"int{bits}{note}"
        found[id(operation)] = Explanation(operation.name, status, island, behind)
    return found
