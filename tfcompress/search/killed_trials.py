"""Trials of processes that were killed are taken up, whatever storage a study has.

Optuna has heartbeats for databases alone, not for journals and servers. Here each running trial holds the lock of a
file in its folder, which the system lets go when the process ends, and writes the time into the study. One whose lock
is free on this machine, or that has said nothing for a while on another, was killed: it fails, and one with its
parameters is waiting, that goes on in its folder.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import platform
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from tfcompress.search.optuna_storage import optuna

BEAT = 30.0
"""Seconds between two signs of life."""

SILENCE = 180.0
"""Seconds without one, after which a process of another machine is taken for killed."""

AGAIN, PLACE, HOST, ALIVE = "again", "folder", "host", "alive"
"""What a study knows of a trial: the number of the killed one that it repeats, its folder, where it runs, when it last
gave a sign of life."""

LOCK = "lock"


def first_number(trial: Any) -> int:
    """Return the number of a trial, or of the killed one that it repeats."""
    return int(trial.user_attrs.get(AGAIN, trial.number))


def folder_name(trial: Any) -> str:
    """Return the name of the folder that a trial has, of one that repeats another that of the other."""
    return f"trial-{first_number(trial):04d}"


@contextlib.contextmanager
def running(trial: Any, folder: pathlib.Path) -> Iterator[None]:
    """Let others see that a trial is running, as long as it is.

    Args:
        trial: of Optuna.
        folder: of the search; the trial's is in it.
    """
    place = folder / folder_name(trial)
    place.mkdir(parents=True, exist_ok=True)
    ended = threading.Event()
    with open(place / LOCK, "w") as lock:
        _lock(lock)
        trial.set_user_attr(PLACE, folder_name(trial))
        trial.set_user_attr(HOST, _host())
        trial.set_user_attr(ALIVE, time.time())

        def beat() -> None:
            while not ended.wait(BEAT):
                with contextlib.suppress(Exception):  # the storage is busy, or has another opinion of the trial
                    trial.set_user_attr(ALIVE, time.time())

        thread = threading.Thread(target=beat, name="signs of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def take_up(study: Any, folder: pathlib.Path) -> list[int]:
    """Let what was killed wait for a process, and return the numbers of the killed trials.

    Args:
        study: of Optuna.
        folder: of the search.
    """
    states = optuna().trial.TrialState
    taken = []
    for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        if _is_alive(trial, folder):
            continue
        try:
            study.tell(trial.number, state=states.FAIL)
        except (ValueError, optuna().exceptions.UpdateFinishedTrialError):  # another process was faster
            continue
        study.enqueue_trial(trial.params, user_attrs={AGAIN: first_number(trial)})
        taken.append(trial.number)
    return taken


def was_killed(trial: Any, trials: list[Any]) -> bool:
    """Return whether a trial failed because its process was killed, and another repeats it."""
    first = first_number(trial)
    return any(one.number > trial.number and first_number(one) == first for one in trials)


def seconds_of_killed(trial: Any, trials: list[Any]) -> float:
    """Return the seconds that the killed trials took which a trial repeats, until their last sign of life."""
    first = first_number(trial)
    killed = [one for one in trials if one.number < trial.number and first_number(one) == first and one.datetime_start]
    return sum(max(0.0, one.user_attrs.get(ALIVE, 0.0) - one.datetime_start.timestamp()) for one in killed)


def _is_alive(trial: Any, folder: pathlib.Path) -> bool:
    known = trial.user_attrs
    path = folder / str(known.get(PLACE, "")) / LOCK
    if known.get(HOST) == _host() and path.exists():
        with open(path) as lock:
            free = _lock(lock)
        if free is not None:
            return not free
    begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return time.time() - float(known.get(ALIVE, begun)) < SILENCE


def _lock(file: TextIO) -> bool | None:
    """Lock a file until it is closed, and return whether that could be; `None`: not on this system."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _host() -> str:
    return f"{platform.node()} {os.environ.get('HOSTNAME', '')}".strip()
