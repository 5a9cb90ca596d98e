"""A table of operations on small inputs that tell right from almost right: negative, tied, half way, all dtypes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

HALVES = np.array([-2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5, 3.7], "float32")
FLOATS = np.array([-3.2, -1.0, -0.3, 0.0, 0.4, 0.9, 2.0, 7.7], "float32")
INTEGERS = np.array([-100, -7, -3, -1, 0, 2, 5, 99])
DIVISORS = np.array([-3, 2, -5, 7, 4, -2, 3, -7])


@dataclasses.dataclass(frozen=True)
class Case:
    """An operation, and what it is tried on.

    Attributes:
        name: of the case.
        call: takes the tensors, returns one.
        data: the arrays; the first axis counts the samples.
    """

    name: str
    call: Callable[..., Any]
    data: tuple[np.ndarray, ...]


class Operation(keras.layers.Layer):
    """A layer that computes a case."""

    def __init__(self, call: Callable[..., Any], bare: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.bare = bare
        self.computed = call

    def call(self, tensors: Any) -> Any:
        """Compute it; what has no batch gets one."""
        made = self.computed(*tensors) if isinstance(tensors, (list, tuple)) else self.computed(tensors)
        return made[None] if self.bare else made


def model_of(case: Case) -> keras.Model:
    """Return a model of one layer, "operation", that computes a case."""
    inputs = [keras.Input(x.shape[1:], dtype=str(x.dtype), name=f"x{place}") for place, x in enumerate(case.data)]
    first = case.call(*(ops.convert_to_tensor(x[:1]) for x in case.data))
    bare = not len(first.shape) or first.shape[0] != 1
    outputs = Operation(case.call, bare, name="operation", dtype="float32")(inputs if len(inputs) > 1 else inputs[0])
    return keras.Model(inputs, outputs, name="net")


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return text.split()


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    """Return seeded noise."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def spread(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return values of a dtype as two samples; an unsigned one holds their sizes."""
    values = np.abs(values) if dtype.startswith("u") else values
    return np.stack([values, values[::-1]]).astype(dtype)


def numbers(dtype: str) -> list[Case]:
    """Return what is tried on every dtype."""
    a, b = spread(FLOATS if dtype == "float32" else INTEGERS, dtype), spread(DIVISORS, dtype)
    image = np.stack([np.arange(48).reshape(4, 4, 3) - 20, 30 - np.arange(48).reshape(4, 4, 3)])
    image = (np.abs(image) if dtype.startswith("u") else image).astype(dtype)
    two = {
        name: getattr(ops, name)
        for name in words(
            "add subtract multiply divide true_divide floor_divide mod maximum minimum equal not_equal less "
            "less_equal greater greater_equal fmax fmin fmod arctan2 hypot heaviside logaddexp"
        )
        if hasattr(ops, name)
    }
    one = {
        name: getattr(ops, name)
        for name in words(
            "abs negative sign square relu argmax argmin sort argsort cumsum cumprod max min sum mean prod any all "
            "isnan isfinite isinf logical_not count_nonzero ptp median std var flip diff trunc ceil floor round exp "
            "ones_like zeros_like nan_to_num"
        )
        if hasattr(ops, name)
    }
    along = {"argmax", "argmin", "sort", "argsort", "cumsum", "cumprod", "max", "min", "sum", "mean", "prod", "any",
             "all", "count_nonzero", "ptp", "median", "std", "var", "flip", "diff"}  # fmt: skip
    cases = [Case(f"{name} {dtype}", function, (a, b)) for name, function in two.items()]
    for name, function in one.items():
        whole = (lambda x, f=function: f(x, axis=-1)) if name in along else function
        cases.append(Case(f"{name} {dtype}", whole, (a,)))
    constant = 3.5 if dtype == "float32" else 3
    shaped = {
        "floor_divide by constant": lambda x: ops.floor_divide(x, ops.cast(constant, dtype)),
        "mod by constant": lambda x: ops.mod(x, ops.cast(constant, dtype)),
        "// 3": lambda x: x // 3,
        "% 3": lambda x: x % 3,
        "clip": lambda x: ops.clip(x, 1, 5),
        "where": lambda x: ops.where(x > 1, x, ops.zeros_like(x)),
        "roll": lambda x: ops.roll(x, 3, axis=-1),
        "roll all": lambda x: ops.roll(x, -2, axis=1),
        "repeat": lambda x: ops.repeat(x, 2, axis=-1),
        "tile": lambda x: ops.tile(x, [1, 3]),
        "pad": lambda x: ops.pad(x, [[0, 0], [1, 2]]),
        "pad value": lambda x: ops.pad(x, [[0, 0], [1, 2]], constant_values=ops.cast(4, dtype)),
        "pad reflect": lambda x: ops.pad(x, [[0, 0], [1, 2]], mode="reflect"),
        "pad symmetric": lambda x: ops.pad(x, [[0, 0], [1, 2]], mode="symmetric"),
        "slice": lambda x: x[:, 1:7:2],
        "slice back": lambda x: x[:, ::-1],
        "slice end": lambda x: x[:, -3:],
        "concatenate": lambda x: ops.concatenate([x, x], axis=-1),
        "stack": lambda x: ops.stack([x, x], axis=-1),
        "expand": lambda x: ops.expand_dims(x, 1),
        "take": lambda x: ops.take(x, [0, -1, 3, -8], axis=-1),
        "take_along_axis": lambda x: ops.take_along_axis(x, ops.argsort(x, axis=-1), axis=-1),
        "top_k": lambda x: ops.top_k(x, 3)[0],
        "top_k indices": lambda x: ops.top_k(x, 3)[1],
        "power": lambda x: ops.power(x, 2),
        "cast float": lambda x: ops.cast(x, "float32") * 0.5,
        "cast bool": lambda x: ops.cast(x, "bool"),
        "cast int32": lambda x: ops.cast(x, "int32"),
        "cast int8": lambda x: ops.cast(ops.clip(x, -100, 100), "int8"),
        "cast int64": lambda x: ops.cast(x, "int64"),
        "saturate_cast int8": lambda x: ops.saturate_cast(x, "int8"),
        "isin": lambda x: ops.isin(x, ops.cast([2, 5, -7], dtype)),
        "reshape": lambda x: ops.reshape(x, (-1, 2, 4)),
        "broadcast": lambda x: ops.expand_dims(x, 1) + ops.expand_dims(x, 2),
        "sum keepdims": lambda x: x - ops.sum(x, axis=-1, keepdims=True),
        "equal self": lambda x: ops.all(ops.equal(x, ops.flip(x, -1)), axis=-1),
        "matmul": lambda x: ops.matmul(ops.reshape(x, (-1, 2, 4)), ops.reshape(x, (-1, 4, 2))),
        "logical_and": lambda x: ops.logical_and(x > 0, x < 6),
        "logical_xor": lambda x: ops.logical_xor(x > 0, x < 6),
        "searchsorted": lambda x: ops.searchsorted(ops.cast([-7, 0, 3, 5], dtype), ops.reshape(x, (-1,))),
        "digitize": lambda x: ops.digitize(x, [-7, 0, 3, 5]),
    }
    cases += [Case(f"{name} {dtype}", function, (a,)) for name, function in shaped.items()]
    pictures = {
        "transpose": lambda x: ops.transpose(x, (0, 3, 1, 2)),
        "flip image": lambda x: ops.flip(x, axis=(1, 2)),
        "rot90": lambda x: ops.rot90(x, axes=(1, 2)),
        "space_to_depth": lambda x: ops.reshape(
            ops.transpose(ops.reshape(x, (-1, 2, 2, 2, 2, 3)), (0, 1, 3, 2, 4, 5)), (-1, 2, 2, 12)
        ),
        "up nearest": lambda x: ops.repeat(ops.repeat(x, 2, 1), 2, 2),
        "tril": lambda x: ops.tril(ops.transpose(x, (0, 3, 1, 2))),
        "triu": lambda x: ops.triu(ops.transpose(x, (0, 3, 1, 2)), 1),
        "max two axes": lambda x: ops.max(x, axis=(1, 2)),
        "sum two axes": lambda x: ops.sum(x, axis=(-2, -3)),
        "argmax middle": lambda x: ops.argmax(x, axis=2),
        "cumsum middle": lambda x: ops.cumsum(x, axis=2),
    }
    cases += [Case(f"{name} {dtype}", function, (image,)) for name, function in pictures.items()]
    if dtype != "float32":
        bits = {name: getattr(ops, f"bitwise_{name}") for name in ("and", "or", "xor")}
        cases += [Case(f"bitwise_{name} {dtype}", function, (a, b)) for name, function in bits.items()]
        cases += [
            Case(f"bitwise_not {dtype}", ops.bitwise_not, (a,)),
            Case(f"left_shift {dtype}", lambda x: ops.left_shift(x, ops.cast(2, dtype)), (a,)),
            Case(f"right_shift {dtype}", lambda x: ops.right_shift(x, ops.cast(2, dtype)), (a,)),
            Case(f"right_shift by tensor {dtype}", ops.right_shift, (a, spread(np.arange(8) % 5, dtype))),
            Case(f"one_hot {dtype}", lambda x: ops.one_hot(x, 6), (a,)),
            Case(f"embedding take {dtype}", lambda x: ops.take(floats(6, 3), ops.abs(x) % 6, axis=0), (a,)),
            Case(f"gcd {dtype}", ops.gcd, (a, b)),
        ]
    return cases


def truths() -> list[Case]:
    """Return what is tried on booleans."""
    a = np.array([[True, False, True, True], [False, False, True, False]])
    b = np.array([[True, True, False, True], [False, True, True, False]])
    two = ("logical_and", "logical_or", "logical_xor", "equal", "not_equal", "add", "multiply", "maximum", "subtract")
    one = ("logical_not", "any", "all", "sum", "argmax", "count_nonzero", "cumsum", "max", "mean", "sort", "flip")
    cases = [Case(f"{name} bool", getattr(ops, name), (a, b)) for name in two]
    for name in one:
        function = getattr(ops, name)
        cases.append(
            Case(f"{name} bool", function if name == "logical_not" else lambda x, f=function: f(x, axis=-1), (a,))
        )
    cases += [
        Case("bitwise_and bool", ops.bitwise_and, (a, b)),
        Case("where bool", lambda x, y: ops.where(x, y, ~x), (a, b)),
        Case("cast bool float", lambda x: ops.cast(x, "float32"), (a,)),
        Case("concatenate bool", lambda x, y: ops.concatenate([x, y], -1), (a, b)),
        Case("take bool", lambda x: ops.take(x, [-1, 0], axis=-1), (a,)),
        Case("pad bool", lambda x: ops.pad(x, [[0, 0], [1, 1]]), (a,)),
        Case("transpose bool", lambda x: ops.transpose(ops.reshape(x, (-1, 2, 2)), (0, 2, 1)), (a,)),
        Case("tile bool", lambda x: ops.tile(x, (1, 2)), (a,)),
    ]
    return cases
