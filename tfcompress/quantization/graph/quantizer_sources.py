"""Which quantizer the values of a tensor come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfcompress.graph.index import GraphIndex
from tfcompress.graph.rewrite import Call, is_cast
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.graph.op_policies import AFFINE, TRANSPARENT, rule_of


def quantizer_of(x: Any, producer: Callable[[Any], Call | None]) -> ActivationQuantizer | None:
    """Return the quantizer that a tensor, or what it is only moved from, comes from.

    Args:
        x: A symbolic tensor.
        producer: Gives the call that makes a tensor, as a graph's index does; `None` for an input of the model.

    Returns:
        The quantizer; `None` if something computes in between, or there is none.
    """
    call = producer(x)
    while call is not None and not isinstance(call.operation, ActivationQuantizer):
        moved = bool(call.inputs) and rule_of(call).kind == TRANSPARENT
        call = producer(call.inputs[0]) if moved else None
    return None if call is None else call.operation


def reached_by_input(x: Any, producer: Callable[[Any], Call | None]) -> bool:
    """Return whether a tensor is an input of the model, moved, cast, scaled and shifted at most.

    Args:
        x: A symbolic tensor.
        producer: Gives the call that makes a tensor, as a graph's index does; `None` for an input of the model.
    """
    call = producer(x)
    while call is not None:
        passes = isinstance(call.operation, ActivationQuantizer) or is_cast(call.operation)
        if len(call.inputs) != 1 or not (passes or rule_of(call).kind in (TRANSPARENT, AFFINE)):
            return False
        call = producer(call.inputs[0])
    return True


def name_of_call(call: Call, graph: GraphIndex) -> str:
    """Return what the tensor that a quantizer's call makes is named after.

    Args:
        call: Of an `ActivationQuantizer`.
        graph: That in which it is.

    Returns:
        The name of the quantizer; where it serves a second tensor, that of the layer before, and "_quantizer".
    """
    if call.keywords.get("observe", True):
        return str(call.operation.name)
    before = graph.producer(call.inputs[0])
    return f"{before.operation.name if before else call.inputs[0].name}_quantizer"
