"""Every layer of Keras is pruned, quantized and shipped as the table of the README says, with Keras' numbers."""

from __future__ import annotations

import keras
import pytest

from tests.layer_cases import CASES, Case, classes, known
from tests.layer_steps import REASONS, WAYS, without_reason
from tests.layer_support import COLUMNS, committed, examine, examine_together, integer_throughout

NEWEST = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 15)
"""What an older Keras makes of a layer may differ in words; the numbers must not."""


def test_every_layer_has_an_entry():
    entries = {name.split()[0] for name in CASES}
    assert not classes() - entries, "a new layer of Keras: give it an entry in tests/layer_cases.py"
    assert not NEWEST or not entries - classes(), "no layer of Keras any more"


def test_every_entry_has_a_row():
    assert list(committed()) == list(CASES)


def test_what_is_off_has_a_reason_and_nothing_else_has():
    assert not {name: found for name, row in committed().items() if (found := without_reason(row))}
    assert all(set(reason["columns"]) <= set(WAYS) for reason in REASONS)
    assert {layer for reason in REASONS for layer in reason["layers"]} <= set(CASES)


TRIED = [name for name, case in known().items() if isinstance(case, Case)]
INTEGER = [name for name in TRIED if NEWEST and name in committed() and integer_throughout(committed()[name])]
OTHERS = [name for name in TRIED if name not in INTEGER]
SIZE, EACH = 12, 5
"""Layers in one model; of so many of the others one is tried in `make test`, and all are in `make test-all`."""

GROUPS = {f"{INTEGER[i]} and others": INTEGER[i : i + SIZE] for i in range(0, len(INTEGER), SIZE)}


def one_of(names: list[str], count: int) -> list[object]:
    """Return cases for `parametrize`, all but one of so many of them rare."""
    return [pytest.param(name, marks=() if i % count == 0 else pytest.mark.rare) for i, name in enumerate(names)]


@pytest.mark.parametrize("group", one_of(list(GROUPS), 4))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_integer_throughout(group):
    """In one model for a dozen layers: one conversion for each file."""
    wrong = examine_together(GROUPS[group])
    if wrong:
        alone = {name: examine(name) for name in GROUPS[group]}
        kept = {name: {column: committed()[name][column] for column in verdict.row} for name, verdict in alone.items()}
        unlike = {name: verdict for name, verdict in alone.items() if verdict.problems or verdict.row != kept[name]}
        raise AssertionError(f"{wrong}; by themselves are not as in the table: {unlike}")


@pytest.mark.parametrize("name", one_of(OTHERS, EACH))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_support(name):
    verdict = examine(name)
    assert not verdict.problems
    expected = committed()[name]
    found = {column: verdict.row[column] for column in COLUMNS}
    assert not NEWEST or found == {column: expected[column] for column in COLUMNS}, verdict.row["note"]
