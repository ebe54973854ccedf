"""What all connections of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from typing import Final

import attrs

from inferencepool.runtime._listening import CONNECTION_LIMITS, LimitTally
from inferencepool.runtime.grpc._call import CallFactory
from inferencepool.runtime.grpc._holdings import Holdings
from inferencepool.runtime.grpc._limits import Limits
from inferencepool.runtime.grpc._unread import Unread

__all__ = ["Service", "Statistics"]


# What is read is copied. C libraries ask the system for each block that is longer than this, and give it back, which
# costs more than all the rest of a read.
_BUFFER_SIZE: Final = 120 * 1024

#: Limits that protect the server from all clients together, by their names.
LIMITS: Final = (
    *CONNECTION_LIMITS,
    "server_streams",
    "partial_bytes",
    "server_bytes",
    "message_seconds",
    "queued_seconds",
)


@attrs.frozen
class Statistics:
    """
    What a server does and did.

    Attributes:
        connections: Open connections, those included that are about to close.
        streams: RPCs in flight.
        partial_bytes: Bytes that are held for requests which are not whole: messages in part, and what calls hold.
        queued_bytes: Bytes of answers that clients do not take yet.
        connections_total: Connections since the start.
        streams_total: RPCs since the start.
        streams_refused: RPCs beyond `Limits.streams` or `Limits.server_streams`, or that came late to a server's end.
        floods: Connections closed because of frames without work or headers beyond their limit.
        violations: Connections closed because the peer broke HTTP/2.
        limits: How often each limit acted that protects the server from all clients together, by its name.
    """

    connections: int
    streams: int
    partial_bytes: int
    queued_bytes: int
    connections_total: int
    streams_total: int
    streams_refused: int
    floods: int
    violations: int
    limits: Mapping[str, int] = attrs.field(factory=dict)


class Service:
    """
    What all connections of a server share: its methods and its counts. The event loop's thread guards it.

    Attributes:
        routes: What makes the calls, by the path of the method.
        limits: What one peer may use.
        on_error: Told of every exception of a call.
        buffer: What arrives is read into it; whoever reads takes it out at once.
        is_stopping: Whether the server takes no more connections.
        holdings: What all connections hold together.
        tally: Told when a limit acts.
        unread: The RPCs whose answers wait, of all connections.
        quiet: Set while no RPC is in flight.
        empty: Set while there is no connection.
    """

    def __init__(
        self, name: str, routes: Mapping[str, CallFactory], limits: Limits, on_error: Callable[[Exception], None]
    ) -> None:
        self.routes = {path.encode(): factory for path, factory in routes.items()}
        self.limits = limits
        self.on_error = on_error
        self.buffer = memoryview(bytearray(_BUFFER_SIZE))
        self.is_stopping = False
        self.holdings = Holdings(limits.server_bytes)
        self.tally = LimitTally(name, LIMITS)
        self.unread = Unread(self.holdings, limits, self.tally)
        self._refuses_from = inf
        self.quiet = asyncio.Event()
        self.quiet.set()
        self.empty = asyncio.Event()
        self.empty.set()
        self.connections = 0
        self.streams = 0
        self.connections_total = 0
        self.streams_total = 0
        self.streams_refused = 0
        self.floods = 0
        self.violations = 0

    def connection_opened(self) -> None:
        """Count a connection."""
        self.connections += 1
        self.connections_total += 1
        self.empty.clear()

    def connection_closed(self) -> None:
        """Count a connection that is gone."""
        self.connections -= 1
        if not self.connections:
            self.empty.set()
            self.unread.stop()

    def stop(self, now: float) -> None:
        """Take no more connections, and no more RPCs once clients have had time to read that."""
        self.is_stopping = True
        self._refuses_from = now + self.limits.linger_seconds

    def takes_streams(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether there may be one more RPC."""
        if self.streams < self.limits.server_streams:
            return not self.is_stopping or loop.time() < self._refuses_from
        self.tally.acted("server_streams")
        return False

    def stream_opened(self) -> None:
        """Count an RPC."""
        self.streams += 1
        self.streams_total += 1
        if self.streams == 1:
            self.quiet.clear()

    def stream_closed(self) -> None:
        """Count an RPC that is over."""
        self.streams -= 1
        if not self.streams:
            self.quiet.set()
