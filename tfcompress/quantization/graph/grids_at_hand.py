"""Whole numbers of what lies on a grid, in a forward pass, and whether there are grids."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from tfcompress.quantization.arithmetic.base import Arithmetic
from tfcompress.quantization.arithmetic.choice import ARITHMETICS
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.graph.surroundings import Surroundings
from tfcompress.quantization.numerics.custom_gradient import differentiable
from tfcompress.quantization.numerics.fake_quant import upstream_of

Tensor = Any

BITS = 8
"""Of activations whose rounding is known for each runtime."""


_ranges_unknown: contextvars.ContextVar[bool] = contextvars.ContextVar("ranges_unknown", default=False)


@contextlib.contextmanager
def ranges_unknown() -> Iterator[None]:
    """Let nothing be rounded in the block whose unit depends on a range that is found from data."""
    token = _ranges_unknown.set(True)
    try:
        yield
    finally:
        _ranges_unknown.reset(token)


_in_floats: contextvars.ContextVar[bool] = contextvars.ContextVar("in_floats", default=False)


@contextlib.contextmanager
def in_floats() -> Iterator[None]:
    """Let layers in the block compute in float32 between the quantizers, so that what is next to a half shows."""
    token = _in_floats.set(True)
    try:
        yield
    finally:
        _in_floats.reset(token)


def are_ranges_unknown() -> bool:
    """Return whether ranges that are found from data don't count here."""
    return _ranges_unknown.get()


def are_in_floats() -> bool:
    """Return whether layers compute in float32 between the quantizers here."""
    return _in_floats.get()


def arithmetic_between(around: Surroundings, joins: bool = False) -> Arithmetic | None:
    """Return the arithmetic of what computes between grids of 8 bits; `None` where it isn't that, or unknown.

    The bits of numbers are looked at with TensorFlow, which files are exported with.

    Args:
        around: What surrounds a layer.
        joins: Whether inputs without a quantizer are such that the one behind serves for them.
    """
    quantizers = [q for q in around.quantizers if q is not None or not joins] + [around.behind]
    if keras.backend.backend() != "tensorflow" or are_ranges_unknown() or _in_floats.get():
        return None
    specs = [None if quantizer is None else quantizer.spec for quantizer in quantizers]
    if any(spec is None or spec.bits != BITS or spec.dynamic for spec in specs):
        return None
    assert around.behind is not None
    return ARITHMETICS[around.behind.spec.arithmetic]


def known(
    around: Surroundings, exact: Callable[[], Any], otherwise: Callable[[], Any], also: Tensor | None = None
) -> Any:
    """Return what is exact where all quantizers around have ranges, and `also` is true; else something else."""
    quantizers = {id(q): q for q in (*around.quantizers, around.behind) if q is not None and q.learns}
    conditions = [*map(has_range, quantizers.values()), *([] if also is None else [also])]
    return ops.cond(ops.all(ops.stack(conditions)), exact, otherwise) if conditions else exact()


def has_range(quantizer: ActivationQuantizer) -> Tensor:
    """Return whether a quantizer has a range, a scalar."""
    if not quantizer.learns:
        return ops.ones((), "bool")
    return ops.convert_to_tensor(quantizer.counts.value)[0] > 0


def whole_numbers(x: Tensor, scale: Tensor) -> Tensor:
    """Return what lies on a grid as its integers, counted from zero, float32; the gradient passes the rounding.

    Args:
        x: float32.
        scale: Of the grid, above 0.
    """
    inverse = 1.0 / scale

    @differentiable
    def rounded(x: Tensor) -> tuple[Tensor, Any]:
        def gradient(*arguments: Tensor, **keywords: Tensor) -> Tensor:
            return upstream_of(arguments, keywords) * inverse

        return ops.round(x * inverse), gradient

    return rounded(x)
