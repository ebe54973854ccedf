"""Locks that do not queue, and that tell what a fork did to what they guard."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import WeakSet

from inferencepool.errors import InferencePoolError

__all__ = ["held", "new_lock", "take", "tolerant_lock"]

# Seconds for which a thread that found the lock taken stays out of the way. Without a pause several such threads
# contend for the interpreter with the one that holds the lock, and all of them get less done.
_PAUSE = 0.000_05

_locks: WeakSet[Lock] = WeakSet()
_tolerant: WeakSet[Any] = WeakSet()
_abandoned: WeakSet[Lock] = WeakSet()


def new_lock() -> Lock:
    """Make a lock for `take`, which notices when its holder was lost in a fork."""
    lock = Lock()
    _locks.add(lock)
    return lock


def tolerant_lock() -> Lock:
    """Make a lock that is new after a fork, for state of which a part that was not written does no harm."""
    lock = Lock()
    _tolerant.add(lock)
    return lock


@contextmanager
def held(lock: Lock) -> Iterator[None]:
    """Hold *lock*; for places that are not called for every request, since it costs as much as half a pick."""
    take(lock)
    try:
        yield
    finally:
        lock.release()


def take(lock: Lock) -> None:
    """
    Acquire *lock* without queueing for it: whoever finds it taken lets other threads run and tries again.

    A thread that queues is handed the lock before it runs, and from then on every pick waits for a thread switch: four
    threads together would get a third of what one gets alone. Where there is no interpreter lock to hand over, it is
    the pause that costs, and the lock is waited for as usual.

    Raises:
        InferencePoolError: Another thread held the lock when this process was forked, so that nobody gives it back.
    """
    if _is_threaded_freely() and lock not in _abandoned:
        lock.acquire()
        return
    while not lock.acquire(False):  # by position: a keyword would cost half as much again
        if lock in _abandoned:
            message = "fork: a thread that this process does not have was changing this when it forked; make a new one"
            raise InferencePoolError(message)
        time.sleep(_PAUSE)


def _is_threaded_freely() -> bool:
    """Tell whether threads run at once. It may change: an extension that is not ready for that ends it."""
    has_interpreter_lock = getattr(sys, "_is_gil_enabled", None)
    return has_interpreter_lock is not None and not has_interpreter_lock()


def _note_abandoned() -> None:
    _abandoned.update(lock for lock in _locks if lock.locked())
    for lock in _tolerant:
        lock._at_fork_reinit()  # noqa: SLF001 - what `threading` itself does to its locks


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_abandoned)
