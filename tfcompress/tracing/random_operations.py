"""Operations of a TensorFlow graph that draw random numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tfcompress.tracing.function_graph import called_functions

NORMAL, UNIFORM, TRUNCATED = "normal", "uniform", "truncated_normal"

KINDS = {
    **dict.fromkeys(("RandomStandardNormal", "StatefulStandardNormalV2"), NORMAL),
    **dict.fromkeys(("StatelessRandomNormal", "StatelessRandomNormalV2"), NORMAL),
    **dict.fromkeys(("RandomUniform", "StatefulUniform"), UNIFORM),
    **dict.fromkeys(("StatelessRandomUniform", "StatelessRandomUniformV2"), UNIFORM),
    **dict.fromkeys(("TruncatedNormal", "StatefulTruncatedNormal"), TRUNCATED),
    **dict.fromkeys(("StatelessTruncatedNormal", "StatelessTruncatedNormalV2"), TRUNCATED),
}
"""What TensorFlow's operations draw; a mean and a deviation, or ends, are applied behind them."""

CLASSES = ("Multinomial", "StatelessMultinomial")
"""Operations that draw classes of given logits: where that of the largest sum of logit and a uniform number's
-log(-log(number)) is, is distributed so."""

_DRAWS = re.compile(r"(State(less|ful))?(Random|TruncatedNormal|ParameterizedTruncatedNormal|Multinomial|Sampl)")
_STATEFUL = re.compile(r"Stateful(StandardNormal|Uniform|TruncatedNormal|RandomBinomial)")
_KEYS = "StatelessRandomGet"
"""What begins the names of operations that make keys and counters of seeds."""


def drawing(concrete: Any, arguments: int) -> list[Any]:
    """Return the operations that draw other numbers each time, of a state, a variable or none, and that outputs need.

    Loops and branches in which something draws are among them. Numbers that are drawn of a fixed seed are constants.

    Args:
        concrete: A concrete function.
        arguments: How many of its inputs are arguments; the rest is captured.

    Returns:
        In the order of the graph.
    """
    captured = {x.op.name for x in concrete.inputs[arguments:]}

    def anew(op: Any, seeds: Iterable[Any]) -> bool:
        return any(x.name in captured for x in _upstream(seed.op for seed in seeds))

    read = {op.name for op in _upstream(x.op for x in concrete.structured_outputs.values())}
    found = []
    functions: dict[str, Any] | None = None
    for op in concrete.graph.get_operations():
        if op.name not in read:
            continue
        if _draws(op.type) and (not op.type.startswith("Stateless") or anew(op, op.inputs[1:])):
            found.append(op)
        elif called := [function.name for function in called_functions(op.node_def)]:
            if functions is None:
                functions = {x.signature.name: x for x in concrete.graph.as_graph_def().library.function}
            kinds = [kind for kind in _inside(called, functions) if _draws(kind)]
            if any(not kind.startswith("Stateless") for kind in kinds) or (kinds and anew(op, op.inputs)):
                found.append(op)
    return found


def said(op: Any) -> str:
    """Say what an operation draws, and how.

    Args:
        op: one of `drawing`.
    """
    if not _draws(op.type):
        return f"in a loop or branch ({op.type})"
    return f"{op.outputs[0].dtype.name} by {op.type}"


def draw_classes(graph: Any, node: Any, given: str) -> None:
    """Let a node draw classes by uniform numbers, which are given.

    Args:
        graph: a GraphDef with the node; changed.
        node: one of `CLASSES`.
        given: The name of the node with the numbers: a row for each draw, in it one for each class.
    """
    import tensorflow as tf

    def make(kind: str, *inputs: str) -> str:
        name = f"{node.name}/{kind}_{len(graph.node)}"
        made = graph.node.add(name=name, op=kind, input=inputs)
        made.attr["T"].type = tf.float32.as_datatype_enum
        return name

    def axis(value: int) -> str:
        made = graph.node.add(name=f"{node.name}/axis_{value}", op="Const")
        made.attr["dtype"].type = tf.int32.as_datatype_enum
        made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.int32))
        return str(made.name)

    logits = make("ExpandDims", node.input[0], axis(1))
    gumbel = make("Neg", make("Log", make("Neg", make("Log", given))))
    drawn = type(node)(name=node.name, op="ArgMax", input=[make("AddV2", logits, gumbel), axis(2)])
    drawn.attr["T"].type = tf.float32.as_datatype_enum
    drawn.attr["output_type"].type = node.attr["output_dtype"].type
    node.CopyFrom(drawn)


def _draws(kind: str) -> bool:
    return bool(_DRAWS.match(kind) or _STATEFUL.match(kind)) and not kind.startswith(_KEYS)


def _upstream(operations: Iterable[Any]) -> list[Any]:
    """Return some operations and all that they depend on."""
    stack, seen = list(operations), {}
    while stack:
        op = stack.pop()
        if op.name not in seen:
            seen[op.name] = op
            stack += [x.op for x in op.inputs]
    return list(seen.values())


def _inside(names: Iterable[str], functions: dict[str, Any]) -> list[str]:
    """Return the kinds of the operations in some functions, and in what these call."""
    stack, seen, kinds = list(names), set[str](), []
    while stack:
        name = stack.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name].node_def:
            kinds.append(node.op)
            stack += [function.name for function in called_functions(node)]
    return kinds
