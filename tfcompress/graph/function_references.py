"""What functions refer to: in what encloses them, in their arguments, in what they are methods of."""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Iterator
from typing import Any

import keras
from keras.layers import Layer


def is_function(x: Any) -> bool:
    """Return whether something is a function, a method or a partial of one."""
    kinds = types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial
    return isinstance(x, kinds)


def held(x: Any) -> Iterator[Any]:
    """Iterate over what a function or a container refers to directly."""
    if isinstance(x, types.FunctionType):
        yield from (cell.cell_contents for cell in x.__closure__ or () if not is_empty(cell))
        yield from (x.__globals__[name] for name in global_names(x))
        yield from (*(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values(), *vars(x).values())
    elif isinstance(x, types.MethodType):
        yield from (x.__self__, x.__func__, *getattr(x.__self__, "__dict__", {}).values())
    elif isinstance(x, types.BuiltinMethodType):
        yield x.__self__
    elif isinstance(x, functools.partial):
        yield from (x.func, *x.args, *x.keywords.values())
    elif isinstance(x, list | tuple | set | frozenset):
        yield from x
    elif isinstance(x, dict):
        yield from x.values()
    elif isinstance(x, weakref.ref):
        yield x()
    elif callable(x) and not isinstance(x, type) and hasattr(x, "__wrapped__"):
        yield x.__wrapped__


def global_names(x: types.FunctionType) -> list[str]:
    """Return the names of layers and weights that are global variables, and which a function reads."""
    codes, names = [x.__code__], []
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        names += [n for n in code.co_names if isinstance(x.__globals__.get(n), Layer | keras.Variable)]
    return names


def is_empty(cell: Any) -> bool:
    """Return whether a variable of an enclosing function has no value yet."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False
