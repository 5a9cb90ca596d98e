"""What is divided by, or of which a root or a logarithm is taken: near zero, where a grid has one value, it matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from tfcompress.graph.affine_forms import constant_map
from tfcompress.graph.index import GraphIndex
from tfcompress.graph.rewrite import Call
from tfcompress.graph.tensorflow_functions import TensorFlowCall
from tfcompress.layers.names import name_of, plain_name
from tfcompress.quantization.graph.op_policies import AFFINE, CONCATENATE, FLOAT, INTEGER, RELU, TRANSPARENT, Rule

_DIVIDES = ("divide", "truedivide", "floordivide", "mod", "dividenonan", "divnonan")
_STEEP = ("sqrt", "rsqrt", "log", "log2", "log10", "reciprocal", "power", "pow")
_INVERSE = ("rsqrt", "reciprocal")
_CARRY = ("add", "subtract", "multiply", "mean", "maximum", "minimum", "averagepooling1d", "averagepooling2d")
"""What is small where what they are made of is; of other operations the result alone stays float."""

DIVISOR = Rule(FLOAT, note="float: something is divided by it, or it is under a root or logarithm")
SCALED = Rule(FLOAT, note="float: it multiplies by an inverse, which has no largest value")


def floats_for_divisors(graph: GraphIndex, rules: Mapping[Call, Rule]) -> dict[Call, Rule]:
    """Return the rules of those calls that stay float, though they have an integer kernel, for what is behind them.

    A variance of 1e-4 beside one of 3 is 0 on a grid of 8 bits, and what is divided by its root is infinite.

    Args:
        graph: That of a lowered model.
        rules: The rule that holds for each call by itself.
    """
    found: dict[Call, Rule] = {}
    waiting = [x for call in graph if rules[call].kind == FLOAT for x in divisors_of(call)]
    while waiting:
        call = graph.producer(waiting.pop())
        if call is None or call in found:
            continue
        kind = rules[call].kind
        if kind == TRANSPARENT:
            waiting += call.inputs
        elif kind in (INTEGER, RELU, CONCATENATE) or (kind == AFFINE and constant_map(call) is not None):
            found[call] = DIVISOR
            if kind != INTEGER or name_of(call.operation) in _CARRY:
                waiting += call.inputs
    for call in graph:
        multiplies = rules[call].kind == INTEGER and name_of(call.operation) == "multiply" and call not in found
        if multiplies and any(_is_inverse(x, graph, rules) for x in call.inputs):
            found[call] = SCALED
    return found


def divisors_of(call: Call) -> tuple[Any, ...]:
    """Return those of a call's inputs of which the small values matter."""
    name = _kind(call)
    if name in _DIVIDES:
        if isinstance(call.operation, TensorFlowCall):
            return call.inputs[-1:]
        return tuple(x for x in call.arguments[1:2] if keras.utils.is_keras_tensor(x))
    return call.inputs[:1] if name in _STEEP else ()


def _kind(call: Call) -> str:
    if isinstance(call.operation, TensorFlowCall):
        return call.operation.function.rpartition(".")[2].replace("_", "")
    return plain_name(type(call.operation))


def _is_inverse(x: Any, graph: GraphIndex, rules: Mapping[Call, Rule]) -> bool:
    call = graph.producer(x)
    while call is not None and (rules[call].kind == TRANSPARENT or constant_map(call) is not None):
        call = graph.producer(call.inputs[0])
    return call is not None and _kind(call) in _INVERSE
