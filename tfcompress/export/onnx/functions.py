"""Functions inside an ONNX file: what recurs in it is written once, and called by a short name.

ONNX Runtime puts a function's operators in the place of each call before it optimizes anything.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

DOMAIN = "c"
"""Of all functions: it stands in each call."""

LEAST_IR = 8
"""The first version of the format that has functions."""


@functools.cache
def parsed(body: str, opset: int) -> Any:
    """Return a function that is written as text, as an `onnx.FunctionProto` without a superfluous byte.

    Args:
        body: Its name, inputs, outputs and nodes in ONNX' syntax; others are called as `c.name`.
        opset: Of the file.

    >>> made = parsed("double (x) => (y) { y = Add (x, x) }", 18)
    >>> made.name, [node.op_type for node in made.node]
    ('double', ['Add'])
    """
    import onnx

    imports = f'"" : {opset}' + (f', "{DOMAIN}" : 1' if f"{DOMAIN}." in body else "")
    made = onnx.parser.parse_function(f'<domain: "{DOMAIN}", opset_import: [{imports}]>\n{body}')
    for entry in (*made.node, *made.opset_import):  # the parser writes what is empty, too
        if not entry.domain:
            entry.ClearField("domain")
    for node in made.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                values = onnx.numpy_helper.to_array(attribute.t)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(values))
    return made


def call(name: str, inputs: Iterable[str], output: str, shape: tuple[int, ...] = ()) -> Any:
    """Return the node that calls a function.

    Args:
        name: The function's.
        inputs: Names of what it is given.
        output: Name of what it makes.
        shape: Its attribute `s`; (): it has none.
    """
    import onnx

    told = {"s": list(shape)} if shape else {}
    return onnx.helper.make_node(name, list(inputs), [output], domain=DOMAIN, **told)


def add(proto: Any, functions: Iterable[Any]) -> None:
    """Add functions to an `onnx.ModelProto`, in place."""
    proto.functions.extend(functions)
    if proto.functions and not any(entry.domain == DOMAIN for entry in proto.opset_import):
        proto.opset_import.add(domain=DOMAIN, version=1)
        proto.ir_version = max(proto.ir_version, LEAST_IR)
