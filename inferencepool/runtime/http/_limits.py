"""What clients may use of the server."""

from __future__ import annotations

from typing import Any

import attrs

from inferencepool._checks import checked_number, checked_whole_number, optional
from inferencepool.runtime._listening import ConnectionLimits, Network, read_networks

__all__ = ["PageLimits"]

_OWNER = "page server"
_whole = checked_whole_number(_OWNER, 1, None)
_seconds = checked_number(_OWNER, above=True, unit="seconds")


def _networks(networks: Any) -> tuple[Network, ...]:
    return read_networks("page server: exempt_peers", networks)


@attrs.frozen(kw_only=True)
class PageLimits:
    """
    What clients may use of the server. One that breaks a limit loses its connection.

    Attributes:
        connections: Connections at a time. One more takes the place of the one that has waited for its next request for
            the longest time, those first that never had one; where none waits, it is closed.
        connections_per_peer: The same for those of one address (of a network of 64 bits, in IPv6); None for any number.
        exempt_peers: Addresses and networks whose connections count for the whole server only.
        pages: Requests for pages that wait to be answered, as pages are made one at a time; one more gets 503.
        head_bytes: Most bytes of a request, which has no body.
        head_seconds: Time for a request from its first byte to its last.
        idle_seconds: Time that a connection may wait for its next request. Prometheus comes once a minute by default.
        send_seconds: Time for a client to take a page.

    Raises:
        ConfigurationError: A value is out of range; the message names the limit.
    """

    connections: int = attrs.field(default=32, validator=_whole)
    connections_per_peer: int | None = attrs.field(default=16, validator=optional(_whole))
    exempt_peers: tuple[Network, ...] = attrs.field(default=(), converter=_networks)
    pages: int = attrs.field(default=8, validator=_whole)
    head_bytes: int = attrs.field(default=16_384, validator=_whole)
    head_seconds: float = attrs.field(default=10.0, validator=_seconds)
    idle_seconds: float = attrs.field(default=120.0, validator=_seconds)
    send_seconds: float = attrs.field(default=30.0, validator=_seconds)

    def of_connections(self) -> ConnectionLimits:
        """Give what concerns connections as such."""
        return ConnectionLimits(
            connections=self.connections, connections_per_peer=self.connections_per_peer, exempt_peers=self.exempt_peers
        )
