"""Every layer of Keras is pruned, quantized and shipped as the table of the README says, with Keras' numbers."""

from __future__ import annotations

import keras
import pytest

from tests.layer_cases import CASES, Case, classes, known
from tests.layer_support import COLUMNS, committed, examine, examine_together, integer_throughout

NEWEST = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 15)
"""What an older Keras makes of a layer may differ in words; the numbers must not."""


def test_every_layer_has_an_entry():
    entries = {name.split()[0] for name in CASES}
    assert not classes() - entries, "a new layer of Keras: give it an entry in tests/layer_cases.py"
    assert not NEWEST or not entries - classes(), "no layer of Keras any more"


def test_every_entry_has_a_row():
    assert list(committed()) == list(CASES)


TRIED = [name for name, case in known().items() if isinstance(case, Case)]
INTEGER = [name for name in TRIED if NEWEST and name in committed() and integer_throughout(committed()[name])]
GROUPS = {f"{INTEGER[i]} and others": INTEGER[i : i + 12] for i in range(0, len(INTEGER), 12)}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_integer_throughout(group):
    """In one model for a dozen layers: one conversion for each file."""
    wrong = examine_together(GROUPS[group])
    if wrong:
        alone = {name: examine(name) for name in GROUPS[group]}
        unlike = {
            name: verdict for name, verdict in alone.items() if verdict.problems or verdict.row != committed()[name]
        }
        raise AssertionError(f"{wrong}; by themselves are not as in the table: {unlike}")


@pytest.mark.parametrize("name", [name for name in TRIED if name not in INTEGER])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_support(name):
    verdict = examine(name)
    assert not verdict.problems
    expected = committed()[name]
    found = {column: verdict.row[column] for column in COLUMNS}
    assert not NEWEST or found == {column: expected[column] for column in COLUMNS}, verdict.row["note"]
