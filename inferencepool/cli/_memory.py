"""Large blocks of memory go back to the system as soon as they are free."""

from __future__ import annotations

import ctypes
from typing import Final

__all__ = ["give_back_large_blocks"]

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 1 << 20


def give_back_large_blocks() -> bool:
    """
    Have the C library map blocks of 1 MiB and more one by one, so that they are unmapped when they are free.

    By itself glibc does so only until the first of them is freed: from then on blocks up to that length come from its
    heap, which keeps what a few long bodies took for ever.

    Returns:
        Whether the C library can; others than glibc give memory back in their own way.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE) and mallopt(_M_TRIM_THRESHOLD, _LARGE))
