"""The memory of a process while something runs in it."""

from __future__ import annotations

import pathlib
import resource
import threading

AT_ONCE = {"TF_ENABLE_ONEDNN_OPTS": "0", "MALLOC_MMAP_THRESHOLD_": "1000000"}
"""With these what is freed goes back to the system at once; else TensorFlow keeps it in a pool that grows in leaps."""


class Memory:
    """The most memory that the process has while this is entered, in MB above what it had before."""

    def __enter__(self) -> Memory:
        self._before = self._most = _resident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.more = self._most - self._before

    def _watch(self) -> None:
        while not self._done.wait(2e-4):
            self._most = max(self._most, _resident())


def _resident() -> float:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
