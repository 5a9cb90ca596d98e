"""Tables as plain text, and numbers in them."""

from __future__ import annotations

import io
import math
from typing import Any

from tfcompress.core.arguments import check_count

WIDTH = 100


def to_text(*parts: Any, width: int = WIDTH) -> str:
    """Return what rich makes of `parts`, without colours or trailing blanks.

    >>> to_text("a", "b")
    'a\\nb'
    """
    from rich.console import Console

    check_count("width", width)
    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False, markup=False, emoji=False)
    console.print(*parts, sep="\n")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip("\n")


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """Return a number with `digits` behind the point; a dash for what isn't known.

    >>> number(0.98765), number(None), number(0.5, 1, sign=True)
    ('0.988', '-', '+0.5')
    """
    if value is None or math.isnan(value):
        return "-"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def significant(value: float | None) -> str:
    """Return a number with four significant digits; a dash for what isn't known.

    >>> significant(0.000123456), significant(1234567.0)
    ('0.0001235', '1.235e+06')
    """
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"


def times(factor: float) -> str:
    """Return how many times something is smaller or faster, in as many digits as say something.

    >>> times(3.1416), times(31.416), times(1234.5), times(0.00271)
    ('3.14x', '31.4x', '1,234x', '0.003x')
    """
    if factor >= 100:
        return f"{factor:,.0f}x"
    return f"{factor:.1f}x" if factor >= 10 else f"{factor:.2f}x" if factor >= 0.1 else f"{factor:.1g}x"


def rough(value: float) -> str:
    """Return a number with one significant digit.

    >>> rough(0.000241), rough(83.0)
    ('0.0002', '80')
    """
    return f"{float(f'{value:.1g}'):,g}"


def plain(value: Any) -> Any:
    """Return `value` as JSON takes it: lists, ints, floats; NaN becomes None.

    >>> import numpy as np
    >>> plain({"auc": np.float32("nan"), "matrix": np.eye(2, dtype=int)})
    {'auc': None, 'matrix': [[1, 0], [0, 1]]}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
