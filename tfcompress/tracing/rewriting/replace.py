"""Replace operations of a TensorFlow graph while it is traced, in the bodies of its loops and conditions too."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Mapping
from typing import Any

from tfcompress.core.tensorflow_private import body_of, set_body, set_input
from tfcompress.tracing.rewriting import (
    complex_numbers,
    counting,
    dilations,
    elementary_functions,
    images,
    integer_operations,
    matrix_products,
    slices,
    volumes,
)

Rule = Callable[[Any], Any]
"""Takes an operation; returns the tensors that stand for its outputs, or None to leave it."""

_BODIES = {
    "While": ("cond", "body"),
    "StatelessWhile": ("cond", "body"),
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
    "PartitionedCall": ("f",),
    "StatefulPartitionedCall": ("f",),
}
"""The attributes of an operation that name functions."""


@functools.cache
def rules_of(kind: str) -> dict[str, tuple[Rule, ...]]:
    """Return {type of an operation: what is tried on it, in this order} for "tflite" or "onnx"."""
    made: dict[str, tuple[Rule, ...]] = {}
    for module in (
        images,
        matrix_products,
        complex_numbers,
        counting,
        elementary_functions,
        integer_operations,
        dilations,
        slices,
        volumes,
    ):
        for name, rules in module.RULES[kind].items():
            made[name] = (*made.get(name, ()), *rules)
    return made


def rewrite(outputs: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Rewrite the graph that is being traced, for a format.

    Operations are replaced in the graph itself: what read their outputs reads the new tensors. What isn't read any
    more stays, and is dropped by the converters.

    Args:
        outputs: {name: tensor} of the current graph.
        kind: "tflite" or "onnx".

    Returns:
        {name: tensor}: the outputs, those that were replaced as what replaced them.
    """
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    named = {name: tf.convert_to_tensor(tensor) for name, tensor in outputs.items()}
    replaced = _rewrite(graph, rules_of(kind))
    return {name: _latest(tensor, replaced) for name, tensor in named.items()}


def _rewrite(graph: Any, rules: Mapping[str, tuple[Rule, ...]]) -> dict[Any, Any]:
    """Return {reference of an old tensor: what replaced it}, and by its name each loop whose body was changed."""
    import tensorflow as tf

    replaced: dict[Any, Any] = {}
    waiting = collections.deque(graph.get_operations())
    while waiting:
        op = waiting.popleft()
        if op.type in _BODIES and _rewrite_bodies(op, rules):
            replaced[op.name] = op
        for rule in rules.get(op.type, ()):
            readers = [_readers(old) for old in op.outputs]
            before = graph.num_operations()
            with graph.control_dependencies(None), tf.name_scope(f"{op.name}/"):
                made = rule(op)
            if made is None:
                continue
            for old, new, places in zip(op.outputs, made, readers, strict=True):
                replaced[old.ref()] = new
                for reader, place in places:
                    set_input(reader, place, new)
            # What was made may itself have to be replaced.
            waiting.extendleft(reversed(graph.get_operations()[before:]))
            break
    return replaced


def _readers(tensor: Any) -> list[tuple[Any, int]]:
    return [(op, place) for op in tensor.consumers() for place, x in enumerate(op.inputs) if x is tensor]


def _latest(tensor: Any, replaced: Mapping[Any, Any]) -> Any:
    while tensor.ref() in replaced:
        tensor = replaced[tensor.ref()]
    return tensor


def _rewrite_bodies(op: Any, rules: Mapping[str, tuple[Rule, ...]]) -> bool:
    """Give a loop or a condition rewritten functions; return whether there was anything to rewrite."""
    shapes = [x.shape for x in op.inputs[1 if op.type.endswith("If") else 0 :]]
    if op.type.endswith("While"):
        shapes = [x.shape for x in op.outputs]
    changed = False
    for attribute in _BODIES[op.type]:
        body = body_of(op, shapes, op.get_attr(attribute).name)
        with body.as_default():
            replaced = _rewrite(body, rules)
        if replaced:
            body.outputs = [_latest(x, replaced) for x in body.outputs]
            body.structured_outputs = list(body.outputs)
            body.name = f"{body.name}_rewritten"
            set_body(op, attribute, body)
            changed = True
    return changed
