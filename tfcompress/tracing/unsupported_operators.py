"""Operators that a format lacks: which layers need them."""

import re
from collections.abc import Iterable
from typing import Any

from tfcompress.tracing.random_operations import CLASSES, KINDS, drawing, said
from tfcompress.tracing.trace import CALL_SUFFIX, Trace


def check_operators(trace: Trace) -> None:
    """Refuse what no file can hold: tables of values, and generators of random numbers.

    Raises:
        ValueError: there is a layer with such; it is named.
    """
    _check_tables(trace)
    _check_draws(trace)


def _check_tables(trace: Trace) -> None:
    """Refuse what looks values up in a hash table, as IntegerLookup does.

    Raises:
        ValueError: there is such a layer; it is named.
    """
    tables = sorted({op.type for op in trace.concrete.graph.get_operations() if op.type.startswith("LookupTable")})
    if tables:
        raise ValueError(
            "Expected layers that compute with numbers alone. Received: "
            f"{named(trace, tables)}, which looks values up in a hash table ({', '.join(tables)}): TFLite and ONNX "
            "have no operator for that. Look them up before the model, in the tf.data pipeline."
        )


def _check_draws(trace: Trace) -> None:
    """Refuse what draws random numbers in inference: a file has none of Keras' generators.

    A converter makes constants of them, drawn once. Numbers that are drawn of a fixed seed are constants.

    Raises:
        ValueError: there is such a layer; it is named.
    """
    drawn = drawing(trace.concrete, len(trace.inputs))
    if drawn:
        layers = dict.fromkeys(layer_of(op, trace.layers) or op.name.split("/")[-1] for op in drawn)
        as_inputs = (
            "or export with random='inputs', which makes the numbers inputs of the file; "
            if all(op.type in (*KINDS, *CLASSES) for op in drawn)
            else ""
        )
        raise ValueError(
            "Expected inference that draws no random numbers: a file would give the same ones, or others than Keras. "
            f"Received: {', '.join(map(repr, layers))} of model {trace.name!r}, which draws some "
            f"({', '.join(dict.fromkeys(map(said, drawn)))}) when called with training=False. Draw in training alone "
            f"(`if not training: return mean`); {as_inputs}or make them an input of the model, drawn before it."
        )


def named(trace: Trace, operators: Iterable[str]) -> str:
    """Return "layer 'a' of model 'm'": whose work needs one of TensorFlow's operators; only the model if unknown."""
    wanted = set(operators)
    paths = [op.name.split("/") for op in trace.concrete.graph.get_operations() if op.type in wanted]
    found = [_layer(path, trace.layers) for path in paths]
    model = f"model {trace.name!r}"
    layers = [name for name in dict.fromkeys(found) if name is not None]
    if layers:
        return f"{_listed('layer', layers)} of {model}"
    # Operations of keras.ops that stand between layers.
    operations = ["/".join(path[-2:] if len(path) > 2 else path[-1:]) for path in paths]
    return f"{_listed('operation', dict.fromkeys(operations))} of {model}" if operations else model


def _listed(kind: str, names: Iterable[str]) -> str:
    listed = [repr(name) for name in names]
    return f"{kind}{'s' * (len(listed) > 1)} {', '.join(listed)}"


_EVERYWHERE = ("Placeholder", "Const", "Identity", "NoOp")


def blamed(trace: Trace, text: str) -> str:
    """Return "layer 'a' (BiasAdd) of model 'm'": what a converter or runtime names in its message; else the model."""
    kinds = {op.name: op.type for op in trace.concrete.graph.get_operations()}
    for word in re.findall(r"[\w.\-]+(?:/[\w.\-]+)*", text):
        name = next((word[:end] for end in range(len(word), 0, -1) if word[:end] in kinds), None)
        if name is None or ("/" not in name and kinds[name] in _EVERYWHERE):
            continue
        path = name.split("/")
        layer = _layer(path, trace.layers)
        where = f"layer {layer!r}" if layer is not None else f"operation {path[-1]!r}"
        return f"{where} ({kinds[name]}) of model {trace.name!r}"
    return f"model {trace.name!r}"


def _layer(path: list[str], layers: frozenset[str]) -> str | None:
    """Return the name of the innermost layer in an operation's path."""
    names = [candidate for part in reversed(path[:-1]) for candidate in (CALL_SUFFIX.sub("", part), part)]
    return next((name for name in names if name in layers), None)


def layer_of(operation: Any, layers: frozenset[str]) -> str | None:
    """Return the name of the innermost of some layers that one of TensorFlow's operations belongs to."""
    return _layer(operation.name.split("/"), layers)


def onnx_has(operators: Iterable[str]) -> bool:
    """Return whether tf2onnx knows all of these operators of TensorFlow."""
    import tf2onnx.tfonnx  # noqa: F401 (registers what it knows)
    from tf2onnx import handler

    return set(operators) <= set(handler.tf_op.create_mapping(18, []))
