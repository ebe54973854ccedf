"""What one peer may use of the server."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs

from inferencepool._checks import checked_number, checked_whole_number, optional, refusal
from inferencepool.runtime._listening import ConnectionLimits, Network, read_networks

__all__ = ["Limits"]

_LARGEST_WINDOW = 2**31 - 1
_INITIAL_WINDOW = 65_535
_KIB = 1024
_MIB = 1024 * _KIB
_OWNER = "grpc limits"
# Of what has no bound of its own.
_MOST = 2**40

_whole = partial(checked_whole_number, _OWNER)
_seconds = checked_number(_OWNER, above=True)


def _networks(networks: Any) -> tuple[Network, ...]:
    return read_networks("grpc limits: exempt_peers", networks)


@attrs.frozen(kw_only=True)
class Limits:
    """
    What one peer may use of the server. A peer that breaks a limit loses the RPC or, if it must, the connection.

    Attributes:
        connections: Connections at a time. One more takes the place of the one that has been without an RPC for the
            longest time, those first that never had one; where all have RPCs, it is closed as it comes.
        connections_per_peer: The same for those of one address (of a network of 64 bits, in IPv6); None for any number.
            Envoy has one connection for each of its worker threads.
        exempt_peers: Addresses and networks whose connections count for the whole server only.
        handshakes: TLS handshakes at a time; one more takes the place of the oldest. Each takes some 300 KiB.
        server_streams: RPCs at a time on all connections; more are refused.
        streams: RPCs at a time on one connection; announced to the client, more are refused. Envoy keeps one connection
            per worker thread, and one RPC per request in flight.
        header_bytes: Size of one list of headers after decompression, as HTTP/2 counts it.
        message_bytes: Size of a message that comes in; a larger one ends its RPC with RESOURCE_EXHAUSTED.
        unpacked_bytes: Size of a compressed message once it is unpacked, which is one step of the event loop; a larger
            one ends its RPC with RESOURCE_EXHAUSTED, as does one that would take the connection beyond a quarter of
            `partial_bytes`. Proxies do not compress.
        partial_bytes: What a connection holds for requests that are not whole: messages in part, lists of headers above
            4 KiB, and what calls say they hold. The RPC that exceeds it ends with RESOURCE_EXHAUSTED, or as its call
            likes. Not below `message_bytes`.
        server_bytes: The same for all connections together, with the answers that wait. Whoever would go beyond it is
            refused in the same manner, and compressed messages are not unpacked beyond it. Answers may take half of it,
            or `queued_bytes` where that is more; beyond that the RPC is reset whose client has taken nothing for the
            longest time. Not below `partial_bytes`.
        stream_window: Bytes that may be under way to the server for one RPC.
        connection_window: Bytes that may be under way to the server on one connection.
        queued_bytes: Answers of one RPC that the client does not take; more reset the RPC.
        connection_queued_bytes: The same for all RPCs of a connection together. Not below `queued_bytes`.
        queued_seconds: Time in which a client must take some of what waits for it in an RPC; then the RPC is reset, or
            the connection cut where the client reads nothing at all. Any byte that it takes gives as much time again.
        idle_frames: Frames without work that may come at once. Every message that comes in allows 8 more.
        idle_frames_per_second: Frames without work that may come on top, per second.
        handshake_seconds: Time for the handshake of TLS, and again for that of HTTP/2.
        message_seconds: Time from the start of an RPC to its first message, and of any message from its first byte to
            its last; then the RPC ends with DEADLINE_EXCEEDED. A client may be silent between messages.
        header_seconds: Time for a list of headers from its first byte to its last.
        idle_seconds: Time a connection without RPCs is kept; None for ever.
        linger_seconds: Time a peer gets to read the last words on a connection and to close it.
    """

    connections: int = attrs.field(default=1024, validator=_whole(1, _MOST))
    streams: int = attrs.field(default=8192, validator=_whole(1, 2**31 - 1))
    connections_per_peer: int | None = attrs.field(default=256, validator=optional(_whole(1, _MOST)))
    exempt_peers: tuple[Network, ...] = attrs.field(default=(), converter=_networks)
    handshakes: int = attrs.field(default=128, validator=_whole(1, _MOST))
    server_streams: int = attrs.field(default=32_768, validator=_whole(1, 2**31 - 1))
    header_bytes: int = attrs.field(default=32 * _KIB, validator=_whole(1024, 2**24))
    message_bytes: int = attrs.field(default=4 * _MIB, validator=_whole(1, 2**32 - 1))
    unpacked_bytes: int = attrs.field(default=4 * _MIB, validator=_whole(1, 2**32 - 1))
    partial_bytes: int = attrs.field(default=64 * _MIB, validator=_whole(1, _MOST))
    server_bytes: int = attrs.field(default=512 * _MIB, validator=_whole(1, _MOST))
    stream_window: int = attrs.field(default=_MIB, validator=_whole(16 * _KIB, _LARGEST_WINDOW))
    connection_window: int = attrs.field(default=16 * _MIB, validator=_whole(_INITIAL_WINDOW, _LARGEST_WINDOW))
    queued_bytes: int = attrs.field(default=64 * _MIB, validator=_whole(1, _MOST))
    connection_queued_bytes: int = attrs.field(default=256 * _MIB, validator=_whole(1, _MOST))
    idle_frames: int = attrs.field(default=2000, validator=_whole(100, _MOST))
    idle_frames_per_second: float = attrs.field(default=200.0, validator=_seconds)
    handshake_seconds: float = attrs.field(default=10.0, validator=_seconds)
    message_seconds: float = attrs.field(default=60.0, validator=_seconds)
    queued_seconds: float = attrs.field(default=60.0, validator=_seconds)
    header_seconds: float = attrs.field(default=10.0, validator=_seconds)
    idle_seconds: float | None = attrs.field(default=None, validator=optional(_seconds))
    linger_seconds: float = attrs.field(default=1.0, validator=_seconds)

    def __attrs_post_init__(self) -> None:
        if self.partial_bytes < self.message_bytes:
            raise refusal(_OWNER, "partial_bytes", self.partial_bytes, f"is below message_bytes, {self.message_bytes}")
        if self.server_bytes < self.partial_bytes:
            raise refusal(_OWNER, "server_bytes", self.server_bytes, f"is below partial_bytes, {self.partial_bytes}")
        if self.connection_queued_bytes < self.queued_bytes:
            rule = f"is below queued_bytes, {self.queued_bytes}"
            raise refusal(_OWNER, "connection_queued_bytes", self.connection_queued_bytes, rule)

    def of_connections(self) -> ConnectionLimits:
        """Give what concerns connections as such."""
        return ConnectionLimits(
            connections=self.connections,
            connections_per_peer=self.connections_per_peer,
            exempt_peers=self.exempt_peers,
            handshakes=self.handshakes,
        )
