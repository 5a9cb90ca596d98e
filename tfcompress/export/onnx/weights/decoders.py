"""The decoders of coded weights: functions inside the file, of operators that ONNX Runtime computes when it loads it.

It computes at once what depends on constants alone: what runs then are the kernels of a file with plain integers. Only
operators and types that ONNX Runtime Web has are used, and none that isn't folded (Loop, Scan, If).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from tfcompress.export.onnx.functions import parsed

UNPACK, VALUES, SHAPED, TABLE, FIELDS, MASK, GAPS = "u", "v", "r", "t", "f", "m", "g"

LEAST_OPSET = 18
"""The first that has BitwiseAnd, and a ReduceProd whose axes are an input."""

_BODIES = {
    # Integers of some bits each: x is (bits, 1, bytes), as packed in `bits`; p is what each bit counts.
    UNPACK: """u (x, p) => (y) {
        s = Constant <value = uint8[8, 1] {1, 2, 4, 8, 16, 32, 64, 128}> ()
        m = Constant <value_ints = [0, -1]> ()
        a = BitwiseAnd (x, s)
        b = Cast <to = 9> (a)
        c = Cast <to = 2> (b)
        d = Reshape (c, m)
        y = MatMulInteger (p, d)
    }""",
    # What stands in a table at places of some bits each.
    VALUES: """v (x, p, t) => (y) {
        a = c.u (x, p)
        y = Gather (t, a)
    }""",
    # The first values, as many as a tensor of shape s has, in that shape.
    SHAPED: """r <s> (x) => (y) {
        s = Constant <value_ints: ints = @s> ()
        z = Constant <value_ints = [0]> ()
        n = ReduceProd (s)
        a = Slice (x, z, n)
        y = Reshape (a, s)
    }""",
    TABLE: """t <s> (x, p, t) => (y) {
        a = c.v (x, p, t)
        y = c.r <s: ints = @s> (a)
    }""",
    # Integers in parts of bytes, less the least: without u, whose bits each take as much memory as a weight.
    FIELDS: """f <s> (x, k, a, l) => (y) {
        m = Constant <value_ints = [-1]> ()
        b = BitShift <direction = "RIGHT"> (x, k)
        c = BitwiseAnd (b, a)
        d = Cast <to = 3> (c)
        e = Add (d, l)
        g = Reshape (e, m)
        y = c.r <s: ints = @s> (g)
    }""",
    # Zero where a bit of x is 0; elsewhere the next of the values.
    MASK: """m <s> (x, p, v) => (y) {
        z = Constant <value = int8[1] {0}> ()
        o = Constant <value_int = 0> ()
        a = c.u (x, p)
        b = CumSum (a, o)
        i = Mul (a, b)
        w = Concat <axis = 0> (z, v)
        d = Gather (w, i)
        y = c.r <s: ints = @s> (d)
    }""",
    # Zero but where the next of the values stands: for each 1 of h, as many steps of t as h has bits up to there lead
    # to it, less all remainders in x up to there. What a 0 of h makes goes to the last of twice as many places.
    GAPS: """g <s> (h, q, t, x, p, v) => (y) {
        s = Constant <value_ints: ints = @s> ()
        o = Constant <value_int = 0> ()
        e = Constant <value = int32 {1}> ()
        n = ReduceProd (s)
        m = Add (n, n)
        z = ConstantOfShape <value = int8[1] {0}> (m)
        a = c.u (h, q)
        b = Max (a, t)
        c = CumSum (b, o)
        d = c.u (x, p)
        f = CumSum (d, o)
        g = CumSum (a, o)
        k = Sub (g, e)
        i = Gather (f, k)
        j = Sub (c, i)
        l = Mul (a, j)
        r = Sub (l, e)
        u = Gather (v, k)
        w = ScatterElements (z, r, u)
        y = c.r <s: ints = @s> (w)
    }""",
}

NEEDED = {
    UNPACK: frozenset({UNPACK}),
    VALUES: frozenset({VALUES, UNPACK}),
    SHAPED: frozenset({SHAPED}),
    TABLE: frozenset({TABLE, VALUES, UNPACK, SHAPED}),
    FIELDS: frozenset({FIELDS, SHAPED}),
    MASK: frozenset({MASK, UNPACK, SHAPED}),
    GAPS: frozenset({GAPS, UNPACK, SHAPED}),
}
"""{decoder: itself and those that it calls}."""


def functions(decoders: Iterable[str], opset: int) -> list[Any]:
    """Return some decoders, and what these call, as `onnx.FunctionProto`s.

    Args:
        decoders: Their names.
        opset: Of the file, at least `LEAST_OPSET`.

    >>> [made.name for made in functions(["t"], 18)]
    ['u', 'v', 'r', 't']
    """
    wanted = frozenset().union(*(NEEDED[name] for name in decoders))
    return [parsed(_BODIES[name], opset) for name in _BODIES if name in wanted]


@functools.cache
def function_bytes(name: str) -> int:
    """Return how many bytes of a file a decoder takes, without those that it calls."""
    size: int = parsed(_BODIES[name], LEAST_OPSET).ByteSize()
    return size + 3
