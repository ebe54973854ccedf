"""How often limits act, counted and told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import final

from inferencepool.runtime.logs import log_event

__all__ = ["LimitTally"]

_LOG = logging.getLogger(__name__)
# Between two lines about one limit: whoever makes it act can do so thousands of times per second.
_INTERVAL = 10.0


@final
class LimitTally:
    """
    Counts how often the limits of a server act, and logs it, at most one line for each limit in ten seconds.

    One event loop's thread guards it; `counts` may be read by any.

    Attributes:
        server: What the server is called.
        counts: How often each limit acted.
    """

    def __init__(self, server: str, limits: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        """Count *limits*, all of them from 0; *clock* gives seconds that never run backwards."""
        self.server = server
        self.counts = dict.fromkeys(limits, 0)
        self._told: dict[str, tuple[float, int]] = {}
        self._clock = clock

    def acted(self, limit: str, *, peer: str = "", reason: str = "") -> None:
        """Count that *limit* acted once; *peer* is the address that it acted upon, where there is one."""
        self.counts[limit] += 1
        now, count = self._clock(), self.counts[limit]
        told_at, told = self._told.get(limit, (float("-inf"), 0))
        if now - told_at < _INTERVAL:
            return
        self._told[limit] = now, count
        fields = {"server": self.server, "limit": limit, "times": count - told}
        if peer:
            fields["peer"] = peer
        if reason:
            fields["reason"] = reason
        log_event(_LOG, logging.WARNING, "limit reached", **fields)
