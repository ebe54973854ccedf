"""One spelling for every IP address."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

__all__ = ["canonical_address"]

_LONGEST = len("0000:0000:0000:0000:0000:ffff:255.255.255.255")


def canonical_address(text: str) -> str | None:
    """
    Spell the IP address *text* as RFC 5952 recommends and Kubernetes does.

    An IPv4-mapped IPv6 address stays IPv6, in the mixed notation of RFC 5952 section 5.

    Returns:
        The address without brackets, or None if *text* is none. One with a zone, such as ``fe80::1%eth0``, is none:
        it means something on one node only, and Kubernetes refuses it too.
    """
    # What is longer than the longest address is not remembered either.
    return _spell(text) if "%" not in text and len(text) <= _LONGEST else None


# A pod tells its addresses several times, and each node's are those of many pods.
@lru_cache(maxsize=4096)
def _spell(text: str) -> str | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        # Python before 3.13 spells these in hexadecimal.
        return f"::ffff:{address.ipv4_mapped}"
    return str(address)
