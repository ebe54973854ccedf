"""Subset hints: the endpoints among which a proxy allows the pick."""

from __future__ import annotations

from collections.abc import Iterable

from inferencepool.model import EndpointSet, Fleet, canonical_address

__all__ = ["narrow", "parse_subset"]


def parse_subset(hint: str | Iterable[object]) -> tuple[str, ...]:
    """
    Split a subset *hint*, the value of ``x-gateway-destination-endpoint-subset``, into its elements.

    Args:
        hint: Elements separated by commas, or a list of such texts. What is no text in a list is skipped, as both
            reference pickers do.

    Returns:
        The elements in the order given, without surrounding space and without empty ones. What they say is not looked
        at: that is up to `narrow`.
    """
    texts = (hint,) if isinstance(hint, str) else hint
    elements = (element.strip() for text in texts if isinstance(text, str) for element in text.split(","))
    return tuple(element for element in elements if element)


def narrow(fleet: Fleet, hint: str | Iterable[object], *, ignore_ports: bool = False) -> EndpointSet:
    """
    Find the endpoints of *fleet* that a subset *hint* allows, in O(length of the hint).

    An element ``ip:port`` allows that port, a bare ``ip`` all ports there (Endpoint Picker Protocol; gateway
    conformance test GatewayFollowingEPPRoutingWithDataParallelism). IPv6 may be spelled in any way, with brackets or,
    where there is no port, without: ``fd00::1:8000`` is an address. An element that is malformed or that the fleet does
    not know allows nothing, so an empty hint gives the empty set; no hint at all is the caller's case.

    Args:
        fleet: The fleet. Its addresses are spelled as `expand` spells them, or the same as in the hint.
        hint: Whatever `parse_subset` reads, its result included.
        ignore_ports: Match by address alone, as the reference's full endpoint picker does: ``ip:port`` then allows all
            ports of that address, whatever the number.
    """
    find = _at_address if ignore_ports else _at_destination
    found = 0
    for element in parse_subset(hint):
        found |= find(fleet, element)
    return found


def _at_destination(fleet: Fleet, element: str) -> EndpointSet:
    found = fleet.by_destination.get(element)
    if found is not None:
        return found
    host, port = _split_port(element)
    address = canonical_address(host)
    if address is None:
        return 0
    if port:
        # Not `join_host_port`: as a number, the port "08000" would turn into one that was not asked for.
        address = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return fleet.by_destination.get(address, 0)


def _at_address(fleet: Fleet, element: str) -> EndpointSet:
    host, _ = _split_port(element)
    found = fleet.by_destination.get(host)
    if found is not None:
        return found
    address = canonical_address(host)
    return 0 if address is None else fleet.by_destination.get(address, 0)


def _split_port(element: str) -> tuple[str, str]:
    """
    Split *element* into the host without brackets and the port.

    Returns:
        Host and port; the port is empty if there is none, and both are if *element* is malformed.
    """
    if element.startswith("["):
        host, closing, rest = element[1:].partition("]")
        # Brackets are for IPv6 alone (RFC 3986 section 3.2.2).
        if not closing or host.count(":") <= 1:
            return "", ""
        colon, port = rest[:1], rest[1:]
    elif element.count(":") == 1:
        host, colon, port = element.partition(":")
    else:
        return element, ""
    if not colon and not port:
        return host, ""
    if colon != ":" or not (port.isascii() and port.isdecimal()):
        return "", ""
    return host, port
