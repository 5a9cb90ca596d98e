"""Operators that a format lacks: which layers need them."""

from collections.abc import Iterable

from tfcompress.export.tracing import CALL_SUFFIX, Trace


def check_tables(trace: Trace) -> None:
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


def named(trace: Trace, operators: Iterable[str]) -> str:
    """Return "layer 'a' of model 'm'": whose work needs one of TensorFlow's operators; only the model if unknown."""
    wanted = set(operators)
    paths = [op.name.split("/") for op in trace.concrete.graph.get_operations() if op.type in wanted]
    found = [_layer(path, trace.layers) for path in paths]
    layers = [repr(name) for name in dict.fromkeys(found) if name is not None]
    model = f"model {trace.name!r}"
    return f"layer{'s' * (len(layers) > 1)} {', '.join(layers)} of {model}" if layers else model


def _layer(path: list[str], layers: frozenset[str]) -> str | None:
    """Return the name of the innermost layer in an operation's path."""
    names = [candidate for part in reversed(path[:-1]) for candidate in (CALL_SUFFIX.sub("", part), part)]
    return next((name for name in names if name in layers), None)


def onnx_has(operators: Iterable[str]) -> bool:
    """Return whether tf2onnx knows all of these operators of TensorFlow."""
    import tf2onnx.tfonnx  # noqa: F401 (registers what it knows)
    from tf2onnx import handler

    return set(operators) <= set(handler.tf_op.create_mapping(18, []))
