"""A lock that does not queue."""

from __future__ import annotations

import time
from threading import Lock

__all__ = ["take"]

# Seconds for which a thread that found the lock taken stays out of the way. Without a pause several such threads
# contend for the interpreter with the one that holds the lock, and all of them get less done.
_PAUSE = 0.000_05


def take(lock: Lock) -> None:
    """
    Acquire *lock* without queueing for it: whoever finds it taken lets other threads run and tries again.

    A thread that queues is handed the lock before it runs, and from then on every pick waits for a thread switch: four
    threads together would get a third of what one gets alone.
    """
    while not lock.acquire(False):  # by position: a keyword would cost half as much again
        time.sleep(_PAUSE)
