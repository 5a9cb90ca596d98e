"""How operations are mapped to ONNX that tf2onnx doesn't know, or maps to something else than they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_WIDER = {"int8": "int32", "uint8": "int32", "int16": "int32", "uint16": "int32", "uint32": "int64"}


class _Builder:
    """Makes nodes in place of one of TensorFlow's.

    Args:
        context: tf2onnx's graph.
        node: To be replaced.
    """

    def __init__(self, context: Any, node: Any):
        from tf2onnx import utils

        self.context, self.name, self.utils = context, node.name, utils
        self.inputs, self.output = list(node.input), node.output[0]
        self.shape, self.kind = context.get_shape(self.output), context.get_dtype(self.output)
        self.given = [utils.map_onnx_to_numpy_type(context.get_dtype(x)) for x in self.inputs]
        context.remove_node(node.name)

    def make(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Return the output of a new node."""
        name = self.utils.make_name(self.name)
        return str(self.context.make_node(kind, list(inputs), attr=attributes, name=name).output[0])

    def constant(self, number: Any, dtype: Any) -> str:
        """Return a constant."""
        return str(
            self.context.make_const(self.utils.make_name(f"{self.name}_const"), np.array(number, dtype)).output[0]
        )

    def cast(self, x: str, dtype: Any) -> str:
        """Return a tensor as another dtype."""
        return self.make("Cast", x, to=self.utils.map_numpy_to_onnx_dtype(np.dtype(dtype)))

    def end(self, x: str) -> None:
        """Give the node's output to a tensor, in its dtype."""
        given = {"outputs": [self.output], "shapes": [self.shape], "dtypes": [self.kind]}
        name = self.utils.make_name(self.name)
        if self.context.get_dtype(x) == self.kind:
            self.context.make_node("Identity", [x], name=name, **given)
        else:
            self.context.make_node("Cast", [x], attr={"to": self.kind}, name=name, **given)

    def wide(self) -> tuple[Any, list[str]]:
        """Return the dtype in which integers are computed, and the inputs in it."""
        dtype = np.dtype(_WIDER.get(np.dtype(self.given[0]).name, self.given[0]))
        return dtype, [
            self.cast(x, dtype) if np.dtype(g) != dtype else x for x, g in zip(self.inputs, self.given, strict=True)
        ]


def floor_div(context: Any, node: Any, name: str, args: Any) -> None:
    """x // y rounds down; the quotient of integers in ONNX rounds towards zero."""
    make = _Builder(context, node)
    dtype, (x, y) = make.wide()
    ratio = make.make("Div", x, y)
    if dtype.kind == "f":
        make.end(make.make("Floor", ratio))
        return
    left = make.make("Sub", x, make.make("Mul", ratio, y))
    same = make.make("Equal", left, make.make("Mod", x, y))
    make.end(make.make("Sub", ratio, make.cast(make.make("Not", same), dtype)))


def floor_mod(context: Any, node: Any, name: str, args: Any) -> None:
    """The remainder that has the sign of the divisor; of floats, the exact one."""
    make = _Builder(context, node)
    dtype, (x, y) = make.wide()
    if dtype.kind != "f":
        make.end(make.make("Mod", x, y))
        return
    zero, left = make.constant(0, dtype), make.make("Mod", x, y, fmod=1)
    other = make.make("Xor", make.make("Less", left, zero), make.make("Less", y, zero))
    there = make.make("Not", make.make("Equal", left, zero))
    make.end(make.make("Where", make.make("And", other, there), make.make("Add", left, y), left))


def right_shift(context: Any, node: Any, name: str, args: Any) -> None:
    """x >> n keeps the sign; ONNX shifts unsigned integers alone."""
    make = _Builder(context, node)
    given = np.dtype(make.given[0])
    unsigned, signed = ("uint64", "int64") if given.itemsize > 4 or given.name == "uint32" else ("uint32", "int32")
    n = make.cast(make.inputs[1], unsigned)
    if given.kind == "u":
        make.end(make.make("BitShift", make.cast(make.inputs[0], unsigned), n, direction="RIGHT"))
        return
    x = make.cast(make.inputs[0], signed)
    negative = make.make("Less", x, make.constant(0, signed))
    flipped = make.make("Sub", make.constant(-1, signed), x)
    positive = make.cast(make.make("Where", negative, flipped, x), unsigned)
    moved = make.cast(make.make("BitShift", positive, n, direction="RIGHT"), signed)
    make.end(make.make("Where", negative, make.make("Sub", make.constant(-1, signed), moved), moved))


def select(context: Any, node: Any, name: str, args: Any) -> None:
    """One of two values; as a sum of products with 0 and 1 it would be NaN where the other isn't finite."""
    make = _Builder(context, node)
    make.end(make.make("Where", *make.inputs))


def erfc(context: Any, node: Any, name: str, args: Any) -> None:
    """Erfc(x), which exact GELU is made of, is 1 - Erf(x)."""
    from tf2onnx import utils

    dtype = utils.map_onnx_to_numpy_type(context.get_dtype(node.output[0]))
    one = context.make_const(utils.make_name(f"{name}_one"), np.ones((), dtype)).output[0]
    node.type = "Erf"
    output = node.output[0]
    context.insert_new_node_on_output("Sub", output, name=utils.make_name(name), inputs=[one, output])


HANDLERS: dict[str, tuple[Callable[..., None], list[Any]]] = {
    "Erfc": (erfc, []),
    "FloorDiv": (floor_div, []),
    "FloorMod": (floor_mod, []),
    "RightShift": (right_shift, []),
    "SelectV2": (select, []),
}
