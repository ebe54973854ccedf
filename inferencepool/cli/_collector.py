"""Python's collector, where there is little for it to collect."""

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

    Simulations and servers hardly make cycles, but hold many objects. To walk over them again and again would be in
    vain, and a server stands still meanwhile.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
