"""How many connections there may be, and from whom."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, TypeAlias

import attrs

from inferencepool.errors import ConfigurationError

__all__ = ["CONNECTION_LIMITS", "ConnectionLimits", "Network", "read_networks"]

Network: TypeAlias = IPv4Network | IPv6Network

#: What is told when one of them acts, by the names that the limits of servers have; descriptors are the system's.
CONNECTION_LIMITS: Final = ("connections", "connections_per_peer", "handshakes", "handshake_seconds", "descriptors")


@attrs.frozen(kw_only=True)
class ConnectionLimits:
    """
    How many connections there may be.

    Attributes:
        connections: All of them.
        connections_per_peer: Those of one address, or of one network of 64 bits in IPv6; None for any number.
        exempt_peers: Addresses for which *connections_per_peer* does not hold.
        handshakes: TLS handshakes that are under way.
    """

    connections: int
    connections_per_peer: int | None
    exempt_peers: tuple[Network, ...] = ()
    handshakes: int = 128


def read_networks(where: str, networks: Any) -> tuple[Network, ...]:
    """
    Read addresses and networks such as ``10.0.0.7``, ``10.0.0.0/8`` or ``fd00::/8``.

    Args:
        where: What they are for, in messages.
        networks: Texts, or networks of the standard library.

    Raises:
        ConfigurationError: One of them is neither an address nor a network.
    """
    if isinstance(networks, str) or not isinstance(networks, Iterable):
        message = f"{where}: {networks!r} is not a list of addresses or networks"
        raise ConfigurationError(message)
    return tuple(_read(where, each) for each in networks)


def _read(where: str, network: Any) -> Network:
    if isinstance(network, IPv4Network | IPv6Network):
        return network
    try:
        # A number would be read as an address, too.
        return ip_network(network if isinstance(network, str) else "", strict=False)
    except ValueError:
        message = f"{where}: {network!r} is neither an address nor a network, such as '10.0.0.7' or 'fd00::/8'"
        raise ConfigurationError(message) from None
