"""Python's collector, where there is nothing for it to collect."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["calm_collector"]

_ALLOCATIONS = 100_000


@contextmanager
def calm_collector() -> Iterator[None]:
    """
    Let the collector look around more rarely, and never at what is there already.

    Simulations make no cycles, but hold many objects, which it would walk over again and again in vain.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
