"""Several threads use the package at once."""

from __future__ import annotations

import sys
import threading
import warnings

import pytest

from tests.check import ON_TENSORFLOW
from tfcompress.core.locking import no_warnings, recursion


@pytest.mark.skipif(not ON_TENSORFLOW, reason="exports")
def test_threads_get_what_one_thread_gets():
    """All verbs on one model, four at a time: no error, equal results, nothing left replaced."""
    from tests.campaigns.threads import campaign

    said: list[str] = []
    counts = campaign(3, said.append)
    assert (counts, said) == ({"calls": 12, "errors and other results": 0, "changes left": 0}, [])


def in_wrong_order(first, second):
    """Enter one context, then another in a second thread; leave the first before the second."""
    entered, left = threading.Event(), threading.Event()

    def run():
        with second:
            entered.set()
            assert left.wait(30)

    thread = threading.Thread(target=run)
    with first:
        thread.start()
        assert entered.wait(30)
    left.set()
    thread.join()


def test_limit_of_recursion_goes_back_when_the_last_is_done():
    """Blocks of two threads that end in another order than they began leave the limit as it was."""
    before = sys.getrecursionlimit()
    in_wrong_order(recursion(before + 100), recursion(before + 50))
    assert sys.getrecursionlimit() == before


def test_filters_of_warnings_are_changed_by_one_thread_at_a_time():
    """A second thread waits, so that each finds and leaves the filters as they were."""
    before = list(warnings.filters)
    inside = []

    def run():
        with no_warnings():
            inside.append(len(warnings.filters))

    thread = threading.Thread(target=run)
    with no_warnings():
        thread.start()
        thread.join(0.05)
        assert not inside
    thread.join()
    assert inside == [len(before) + 1]
    assert warnings.filters == before
