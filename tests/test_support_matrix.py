"""Every layer of Keras is pruned, quantized and shipped as the table of the README says, with Keras' numbers."""

from __future__ import annotations

import keras
import pytest

from benchmarks.support import CASES, COLUMNS, Case, classes, committed, examine, known

NEWEST = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 15)
"""What an older Keras makes of a layer may differ in words; the numbers must not."""


def test_every_layer_has_an_entry():
    entries = {name.split()[0] for name in CASES}
    assert not classes() - entries, "a new layer of Keras: give it an entry in benchmarks/support.py"
    assert not NEWEST or not entries - classes(), "no layer of Keras any more"


def test_every_entry_has_a_row():
    assert list(committed()) == list(CASES)


@pytest.mark.parametrize("name", [name for name, case in known().items() if isinstance(case, Case)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_support(name):
    verdict = examine(name)
    assert not verdict.problems
    expected = committed()[name]
    found = {column: verdict.row[column] for column in COLUMNS}
    assert not NEWEST or found == {column: expected[column] for column in COLUMNS}, verdict.row["note"]
