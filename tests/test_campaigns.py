"""A tenth of each campaign that is quick enough."""

from __future__ import annotations

from tests.campaigns import bad_calls, command_lines, damaged_files


def test_bad_calls():
    assert not bad_calls.main(0.1).bad


def test_bad_command_lines():
    assert not command_lines.main(0.1).bad


def test_damaged_files():
    assert not damaged_files.main(0.1).bad
