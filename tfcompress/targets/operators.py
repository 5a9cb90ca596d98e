"""Which operators a runtime has, found out by giving it files, and the way round those that it hasn't."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterable

import msgspec

from tfcompress.core.plain_files import parsed


class OperatorSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which operators a runtime has.

    Attributes:
        runtime: Its name, for messages.
        version: With which that was found out.
        operators: Those that it has.
        layers: {name of a layer or activation, in small letters: the operator that it needs and that is missing}.
        ways: {an operator: what to do in place of it, as a sentence}.
        custom: Those that it has besides, which are in no schema.
        one_scale: Operators that read the first scale of a constant for all of it.
    """

    runtime: str
    version: str
    operators: tuple[str, ...]
    layers: dict[str, str] = {}
    ways: dict[str, str] = {}
    custom: tuple[str, ...] = ()
    one_scale: tuple[str, ...] = ()

    def missing(self, kinds: Iterable[str]) -> list[str]:
        """Return those of some operators that the runtime hasn't."""
        return [kind for kind in kinds if kind not in (*self.operators, *self.custom)]

    @classmethod
    @functools.cache
    def get(cls, name: str) -> OperatorSet:
        """Return the set that is kept under a name.

        >>> OperatorSet.get("tflm").missing(["CONV_2D", "GELU"])
        ['GELU']
        """
        file = importlib.resources.files("tfcompress.targets") / "data" / "operators" / f"{name}.yaml"
        with importlib.resources.as_file(file) as path:
            return msgspec.convert(dict(parsed(path, "a set of operators")), cls)
