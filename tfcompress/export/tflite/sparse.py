"""Zeros left out of a TFLite file, as far as its runtime is seen to compute the same without them."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Literal

from tfcompress.export.tflite.sparse_weights import Choice, apply, plan
from tfcompress.parity.tolerance import Parity

SPARSE = (False, "auto", True)
"""What `tfc.export(..., sparse=)` takes."""

Sparse = bool | Literal["auto"]

MOST_NAMES = 8
"""Weights that are named with the reason why they stay dense; the others are counted."""


def leave_out_zeros(
    content: bytes, sparse: Sparse, prove: Callable[[bytes], Parity], shipped: Callable[[bytes], bytes]
) -> tuple[bytes, Parity | None, tuple[str, ...]]:
    """Store the weights of a file without their zeros, where the file gets smaller and computes the same.

    What the runtime doesn't read right is found by running it: first a file with all the chosen weights, and if that
    one fails, files with one of them each.

    Args:
        content: The file's bytes.
        sparse: True: as small as can be; "auto": only what costs no speed.
        prove: Runs a file and compares it with Keras; raises an exception if it fails.
        shipped: Makes of a file, in which tensors have names, the one that is written.

    Returns:
        The bytes to write; what `prove` returned for them, `None` for those given; and notes for a reader: what is
        stored sparsely, what isn't, and why.
    """
    made = plan(content, keep_speed=sparse == "auto")
    whole = shipped(content)

    def attempt(choices: tuple[Choice, ...]) -> tuple[bytes | None, Parity | None, str]:
        return _attempt(shipped(apply(content, choices)), len(whole), prove) if choices else _NOTHING

    dense, good = dict(made.dense), made.choices
    smaller, parity, problem = attempt(good)
    if good and smaller is None:
        if len(good) > 1:
            kept = []
            for choice in good:
                alone, _, why = attempt((choice,))
                if alone is None:
                    dense[choice.name] = why
                else:
                    kept.append(choice)
            good = tuple(kept)
            smaller, parity, problem = attempt(good)
        if smaller is None:
            dense.update((choice.name, problem) for choice in good)
            good = ()
    if smaller is None:
        return whole, None, (f"sparse: all weights are stored dense, {len(whole):,} bytes.", *_reasons(dense))
    return smaller, parity, (*_summary(whole, smaller, good), *_reasons(dense))


_NOTHING = None, None, "nothing to store sparsely"


def _attempt(candidate: bytes, most: int, prove: Callable[[bytes], Parity]) -> tuple[bytes | None, Parity | None, str]:
    """Return a file that is smaller than `most` bytes and proven, and its parity; or `None`s and the reason."""
    if len(candidate) >= most:
        return None, None, "the file doesn't get smaller"
    try:
        return candidate, prove(candidate), ""
    except (ValueError, RuntimeError) as error:  # the runtime refuses it, fails while it runs, or computes otherwise
        reason = " ".join(str(error).split())
        return None, None, f"the runtime fails on it: {reason[:300]}"


def _summary(content: bytes, smaller: bytes, choices: tuple[Choice, ...]) -> list[str]:
    kinds = collections.Counter(_effect(choice) for choice in choices)
    parts = "; ".join(f"{count} {effect}" for effect, count in kinds.items())
    weights = f"{len(choices)} weight{'s' if len(choices) > 1 else ''}"
    return [f"sparse: {weights} stored without zeros, {len(smaller):,} bytes instead of {len(content):,} ({parts})."]


def _effect(choice: Choice) -> str:
    if not choice.direct:
        return "widened when the file is loaded, then as fast as dense"
    return f"computed without zeros, {'slower' if choice.slower else 'faster'} than dense"


def _reasons(dense: dict[str, str]) -> list[str]:
    lines = [f"sparse: {name!r} stays dense: {reason}." for name, reason in list(dense.items())[:MOST_NAMES]]
    if len(dense) > MOST_NAMES:
        lines.append(f"sparse: {len(dense) - MOST_NAMES} more weights with zeros stay dense for reasons like these.")
    return lines
