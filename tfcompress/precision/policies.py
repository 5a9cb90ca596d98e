"""Which policies there are, and which one "auto" means."""

from __future__ import annotations

import difflib
import warnings
from typing import Any

import keras

from tfcompress.precision.devices import device, why_it_fails

POLICIES = ("mixed_float16", "mixed_bfloat16", "float32")
AUTO = "auto"
HALVES = ("float16", "bfloat16")


def policy_name(policy: Any) -> str:
    """Return the name of a policy, or "auto".

    Args:
        policy: A name or a `keras.DTypePolicy`.

    Raises:
        TypeError: If it is neither, or a `DTypePolicyMap`.
        ValueError: If there is no such policy; the message says the nearest.

    Example:

    >>> policy_name("mixed_fp16")
    Traceback (most recent call last):
    ValueError: Expected `policy` to be one of 'mixed_float16', 'mixed_bfloat16', 'float32', 'auto'. Received:
    'mixed_fp16'. Did you mean 'mixed_float16'?
    """
    if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        raise TypeError(
            "Expected `policy` to be one policy for all layers. Received: a DTypePolicyMap. Name the layers that "
            "are to stay float32 in `keep_float32`."
        )
    name = policy.name if isinstance(policy, keras.DTypePolicy) else policy
    if not isinstance(name, str):
        raise TypeError(
            f"Expected `policy` to be a name or a keras.DTypePolicy. Received: {policy!r} of type "
            f"{type(policy).__name__}."
        )
    if name in (*POLICIES, AUTO):
        return name
    known = [*POLICIES, AUTO]
    half = f"mixed_{name}" in known
    near = f"mixed_{name}" if half else difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    weights = f" {name!r} keeps the weights in 16 bits too." if half else ""
    raise ValueError(
        f"Expected `policy` to be one of {', '.join(map(repr, known))}. Received: {name!r}.{weights} Did you mean "
        f"{near!r}?"
    )


def resolve(policy: Any) -> tuple[str, str]:
    """Return the name of the policy to use, and for "auto" a sentence that says why, else "".

    Raises:
        TypeError, ValueError: As `policy_name`; and ValueError if the device can't compute so.

    Warns:
        UserWarning: If the device is slow with what was asked for.
    """
    name = policy_name(policy)
    here = device()
    said = ""
    if name == AUTO:
        name = here.best()
        said = f"mixed_precision: {name}, since Keras runs on {here}."
    if name == "float32":
        return name, said
    fault = why_it_fails(name.removeprefix("mixed_"))
    if fault and said:
        return "float32", f"mixed_precision: float32, since on {here} a product of matrices in {name} fails: {fault}."
    if fault:
        raise ValueError(
            f"Expected a policy that {here} can run. Received: {name!r}, with which a product of matrices fails: "
            f"{fault}. Take policy={AUTO!r}, which is {here.best()!r} here."
        )
    drawback = here.drawback(name)
    if drawback and not said:
        warnings.warn(
            f"{name} is slow on {here}: {drawback}. Train where it is fast, or take policy={AUTO!r}, which is "
            f"{here.best()!r} here.",
            stacklevel=3,
        )
    return name, said
