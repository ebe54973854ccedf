"""One spelling for every IP address."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

__all__ = ["canonical_address"]


def canonical_address(text: str) -> str | None:
    """
    Spell the IP address *text* the way Kubernetes does: RFC 5952, lower case, no brackets.

    An IPv4-mapped IPv6 address stays IPv6, in the mixed notation of RFC 5952 section 5.

    Returns:
        The address, or None if *text* is none.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None and address.scope_id is None:
        # Python before 3.13 spells these in hexadecimal.
        return f"::ffff:{address.ipv4_mapped}"
    return str(address)
