"""Connections, as far as room for them goes."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import final

from inferencepool.runtime._listening._limits import ConnectionLimits
from inferencepool.runtime._listening._tally import LimitTally

__all__ = ["Guest", "Guests"]

# Whoever is asked to go may take a moment for it: so many of them beside those that are allowed, as a share.
_LEAVING_SHARE = 8
# Of an IPv6 address: what a provider gives to one customer.
_NETWORK_BITS = 64


class _Queues:
    """Connections that may be closed to make room, each queue with the longest wait first."""

    __slots__ = ("count", "leaving", "newcomers", "resting")

    def __init__(self) -> None:
        self.count = 0
        self.leaving = 0
        self.newcomers: dict[Guest, None] = {}
        self.resting: dict[Guest, None] = {}

    def first(self) -> Guest | None:
        """Give who is to go first: of those that never had work, then of those that have none."""
        return next(iter(self.newcomers), None) or next(iter(self.resting), None)


@final
class Guest:
    """
    The place of one connection. Whoever has the connection tells when it works and when it is gone.

    Attributes:
        peer: Its address, as limits count it.
        on_close: Closes the connection, soon; set by whoever has it.
    """

    __slots__ = ("_guests", "_is_leaving", "_is_present", "_queues", "on_close", "peer")

    def __init__(self, guests: Guests, peer: str, queues: tuple[_Queues, ...]) -> None:
        self.peer = peer
        self.on_close: Callable[[], None] | None = None
        self._guests = guests
        self._queues = queues
        self._is_present = True
        self._is_leaving = False
        for each in queues:
            each.count += 1
            each.newcomers[self] = None

    def work(self) -> None:
        """Tell that the connection has something to do: it is not closed to make room."""
        for each in self._queues:
            each.newcomers.pop(self, None)
            each.resting.pop(self, None)

    def rest(self) -> None:
        """Tell that the connection has nothing to do any more."""
        if self._is_present and not self._is_leaving:
            for each in self._queues:
                each.resting[self] = None

    def leave(self) -> None:
        """Tell that the connection is gone; calling it again does nothing."""
        if self._is_present:
            self._is_present, self.on_close = False, None
            self.work()
            for each in self._queues:
                each.count -= 1
                each.leaving -= self._is_leaving
            self._guests.forget(self)

    def close(self) -> None:
        """Ask it to go."""
        if self._is_present and not self._is_leaving:
            self._is_leaving = True
            self.work()
            for each in self._queues:
                each.leaving += 1
            if self.on_close is not None:
                self.on_close()


@final
class Guests:
    """
    All connections of a server. Its event loop's thread guards it.

    Where there is no room for one more, the one that has had nothing to do for the longest time goes, those first that
    never had. One that has something to do is never closed for another. Everything takes constant time.
    """

    def __init__(self, limits: ConnectionLimits, tally: LimitTally) -> None:
        """Keep to *limits*, and tell *tally* when one acts."""
        self._limits = limits
        self._tally = tally
        self._all = _Queues()
        self._peers: dict[str, _Queues] = {}
        self._handshakes: dict[Guest, None] = {}

    def __len__(self) -> int:
        return self._all.count

    def admit(self, address: str) -> Guest | None:
        """Give a place to a connection from *address*; None where there is none."""
        peer, is_exempt = self._peer_of(address)
        limits = self._limits
        queues: tuple[_Queues, ...] = (self._all,)
        if limits.connections_per_peer is not None and not is_exempt:
            of_peer = self._peers.get(peer) or _Queues()
            if not self._has_room(of_peer, limits.connections_per_peer, "connections_per_peer", peer):
                return None
            queues = (self._all, of_peer)
        if not self._has_room(self._all, limits.connections, "connections", peer):
            return None
        guest = Guest(self, peer, queues)
        if len(queues) > 1:
            self._peers[peer] = queues[1]
        return guest

    def begin_handshake(self, guest: Guest) -> None:
        """Note that a TLS handshake begins, and close the oldest where there are too many."""
        self._handshakes[guest] = None
        if len(self._handshakes) > self._limits.handshakes:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            self._tally.acted("handshakes", peer=oldest.peer)
            oldest.close()

    def end_handshake(self, guest: Guest) -> None:
        """Note that a TLS handshake is over."""
        self._handshakes.pop(guest, None)

    def make_room(self) -> None:
        """Have one connection closed that has nothing to do, if there is any."""
        first = self._all.first()
        if first is not None:
            first.close()

    def forget(self, guest: Guest) -> None:
        """Drop what is known of a peer whose last connection is gone."""
        self._handshakes.pop(guest, None)
        queues = self._peers.get(guest.peer)
        if queues is not None and not queues.count:
            del self._peers[guest.peer]

    def _has_room(self, queues: _Queues, most: int, limit: str, peer: str) -> bool:
        if queues.count - queues.leaving < most:
            return True
        self._tally.acted(limit, peer=peer)
        first = queues.first()
        if first is None or queues.leaving > most // _LEAVING_SHARE:
            return False
        first.close()
        return True

    def _peer_of(self, address: str) -> tuple[str, bool]:
        """Give the name under which an address is counted, and whether it is exempt."""
        try:
            # Link-local addresses have a zone, which networks have not.
            found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
        except ValueError:
            return address, False
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        is_exempt = any(found in network for network in self._limits.exempt_peers)
        if isinstance(found, IPv6Address):
            network = IPv6Address(int(found) >> _NETWORK_BITS << _NETWORK_BITS)
            return f"{network}/{_NETWORK_BITS}", is_exempt
        return str(found), is_exempt
