"""Tests of modules that have the private names of another package: each function there has one, and says what to do."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import ModuleType

import pytest


class Cases:
    """The tests of one module.

    Args:
        module: Its functions' docstrings say behind "Instead:" what is to be done without the name.
        package: Whose names these are.
        version: Of the package, as it is installed.
        seen: The versions in which every name was seen.
    """

    def __init__(self, module: ModuleType, package: str, version: str, seen: str):
        self.module, self.package, self.version, self.seen = module, package, version, seen
        self.tests: dict[str, Callable[[], None]] = {}

    def case(self, *names: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
        """Say which functions a test is for: by default the one of its name."""

        def register(test: Callable[[], None]) -> Callable[[], None]:
            self.tests[" ".join(names or (test.__name__,))] = test
            return test

        return register

    def instead(self, name: str) -> str:
        """Return what is to be done without the names that a function has."""
        found = re.search(r"Instead: (.+)", inspect.getdoc(getattr(self.module, name)) or "", re.S)
        return " ".join(found[1].split()) if found else ""

    def check_complete(self) -> None:
        """Fail unless each function has a test, and says what to do without the name."""
        functions = sorted(
            name
            for name, value in vars(self.module).items()
            if callable(value) and getattr(value, "__module__", "") == self.module.__name__ and name[0] != "_"
        )
        assert functions == sorted(name for names in self.tests for name in names.split())
        assert all(map(self.instead, functions))

    def check(self, names: str) -> None:
        """Run a test; fail with the version and what to do."""
        try:
            self.tests[names]()
        except Exception as error:
            rest = "; ".join(f"{name}: {self.instead(name)}" for name in names.split())
            pytest.fail(
                f"Expected {self.package} as {self.seen} is, for what {self.module.__name__} takes from it. Received: "
                f"{self.package} {self.version}, {type(error).__name__}: {error}. Find the new names, or do without "
                f"them. {rest}"
            )
