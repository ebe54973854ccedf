"""Answers that clients do not take, of all connections of a server: how long they wait, and which of them go first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from inferencepool.runtime._listening import LimitTally
from inferencepool.runtime.grpc._exchange import Exchange
from inferencepool.runtime.grpc._holdings import Holdings
from inferencepool.runtime.grpc._limits import Limits

__all__ = ["Unread"]

# So many RPCs are reset in one step.
_AT_ONCE = 64


class Unread:
    """
    The RPCs whose answers wait, the one first whose client has taken nothing for the longest time.

    The event loop's thread guards it. Everything takes constant time, but for what it resets: 64 RPCs at a time.

    Attributes:
        holdings: What all connections hold together.

    Args:
        holdings: The same.
        limits: How much may wait, and for how long.
        tally: Told when a limit acts.
    """

    def __init__(self, holdings: Holdings, limits: Limits, tally: LimitTally) -> None:
        self.holdings = holdings
        self._most = max(limits.server_bytes // 2, limits.queued_bytes)
        self._seconds = limits.queued_seconds
        self._tally = tally
        self._since: OrderedDict[Exchange, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_too_much(self) -> bool:
        """Whether answers take more than they may, which leaves too little to requests, or more than there is."""
        return self.holdings.queued > self._most or self.holdings.room < 0

    def wait(self, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        """Note that answers of *exchange* wait from now on."""
        self._since[exchange] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._expire, loop)

    def go_on(self, exchange: Exchange, loop: asyncio.AbstractEventLoop) -> None:
        """Note that the client has taken some of what waits."""
        self._since[exchange] = loop.time()
        self._since.move_to_end(exchange)

    def forget(self, exchange: Exchange) -> None:
        """Note that nothing of *exchange* waits any more."""
        self._since.pop(exchange, None)

    def make_room(self) -> bool:
        """Have those reset that wait for longest, until all hold no more than they may; False where that fails."""
        for _ in range(_AT_ONCE):
            if not (self.is_too_much and self._since):
                break
            self._tally.acted("server_bytes")
            next(iter(self._since)).overflow()
        return not self.is_too_much

    def stop(self) -> None:
        """Stop the clock, when there are no connections any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have those reset whose clients took nothing in time."""
        self._timer = None
        for _ in range(_AT_ONCE):
            if not self._since:
                return
            exchange, since = next(iter(self._since.items()))
            left = since + self._seconds - loop.time()
            if left > 0:
                self._timer = loop.call_later(left, self._expire, loop)
                return
            if exchange.expire():
                self._tally.acted("queued_seconds")
            else:
                self.go_on(exchange, loop)
        if self._timer is None:
            self._timer = loop.call_later(0, self._expire, loop)
