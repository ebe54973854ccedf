"""Fleets, subset hints, pools and pods for the tests of selection."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address

from hypothesis import strategies as st

from inferencepool.model import (
    Endpoint,
    EndpointSet,
    Fleet,
    InferencePool,
    LabelSelector,
    Pod,
    TargetPort,
    to_endpoint_set,
)
from inferencepool.selection import parse_subset

# Few, so that hints often name what a fleet has; the last two have another family's address inside.
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.12", "fd00::1", "fd00::1:8000", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1")
PORTS = (80, 8000, 8001)

# Addresses that no endpoint can have.
BAD_ADDRESSES = ("10.0.0", "10.0.0.256", "10.0.0.01", "fe80::1%eth0", "[fd00::1]", "10.0.0.1:80", "pod-1", "\x00")


def fleet_of(*endpoints: tuple[str, int] | None) -> Fleet:
    """Build a fleet of addresses and ports by slot; None leaves the slot free."""
    occupants = tuple(
        None if item is None else Endpoint(namespace="default", pod_name=f"pod-{slot}", address=item[0], port=item[1])
        for slot, item in enumerate(endpoints)
    )
    members = to_endpoint_set(slot for slot, item in enumerate(occupants) if item is not None)
    return Fleet(occupants, tuple(range(len(occupants))), members)


def fleets() -> st.SearchStrategy[Fleet]:
    """Fleets with free slots and with endpoints that share an address or even a port."""
    places = st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(PORTS))
    return st.lists(st.none() | places, max_size=12).map(lambda chosen: fleet_of(*chosen))


@st.composite
def spellings(draw: st.DrawFn, address: str) -> str:
    """Spellings of *address* that mean the same; an IPv4 address has one only."""
    parsed = ip_address(address)
    if not isinstance(parsed, IPv6Address):
        return address
    groups = parsed.exploded.split(":")
    last = f"{IPv6Address(parsed).packed[12]}.{'.'.join(map(str, parsed.packed[13:]))}"
    forms = [address, parsed.exploded, ":".join(group.lstrip("0") or "0" for group in groups)]
    forms.append(":".join([*groups[:6], last]))
    text: str = draw(st.sampled_from(forms))
    return text.upper() if draw(st.booleans()) else text


@st.composite
def elements(draw: st.DrawFn) -> str:
    """Elements of a hint: addresses with and without a port and brackets, and what looks like it."""
    address = draw(spellings(draw(st.sampled_from(ADDRESSES))))
    host = draw(st.sampled_from([address, f"[{address}]"]))
    port = draw(st.sampled_from(["", *(f":{port}" for port in PORTS), ":", ":0", ":08000", ":http", ":\u0668\u0660"]))
    return draw(st.sampled_from([host + port, host + port, host + port, f"[{host}{port}", f"{host}{port}]"]))


def hints() -> st.SearchStrategy[str | list[object]]:
    """Hints in both forms, with spaces, empty elements, items that are no text, and noise."""
    noise = st.text("[]:.%, 0128afF", max_size=12)
    space = st.sampled_from(["", " ", "\t"])
    padded = st.tuples(space, elements() | elements() | noise, space).map("".join)
    text = st.lists(padded, max_size=5).map(",".join)
    return text | st.lists(text | st.none() | st.integers() | st.binary(max_size=3), max_size=4)


def named(fleet: Fleet, hint: str | list[object], *, ignore_ports: bool) -> EndpointSet:
    """Ask for every endpoint of *fleet* whether an element of *hint* means it: what `narrow` must give."""
    parsed = parse_subset(hint)
    return to_endpoint_set(
        slot
        for slot in fleet.slots
        if any(_means(element, fleet.at(slot), ignore_ports=ignore_ports) for element in parsed)
    )


def _means(element: str, endpoint: Endpoint, *, ignore_ports: bool) -> bool:
    bracketed = re.fullmatch(r"\[([^]]*:[^]]*)\](?::([0-9]+))?", element)
    short = re.fullmatch(r"([^:\[\]]*)(?::([0-9]+))?", element)
    match = bracketed or short
    host, port = (match[1], match[2]) if match else (element, None)
    try:
        same = ip_address(host) == ip_address(endpoint.address)
    except ValueError:
        return False
    return same and (ignore_ports or port is None or port == str(endpoint.port))


def pools() -> st.SearchStrategy[InferencePool]:
    """Pools in two namespaces, with up to eight target ports."""
    ports = st.lists(st.integers(1, 65535) | st.integers(8000, 8009), min_size=1, max_size=8, unique=True)
    return st.builds(
        lambda namespace, labels, numbers: InferencePool(
            name="llama",
            namespace=namespace,
            selector=LabelSelector(match_labels=labels),
            target_ports=tuple(map(TargetPort, numbers)),
        ),
        st.sampled_from(["default", "other"]),
        st.sampled_from([{"app": "llama"}, {"app": "llama", "tier": "gold"}]),
        ports,
    )


def pods() -> st.SearchStrategy[Pod]:
    """Pods that are members of a pool of `pools` about as often as not."""
    mostly = st.sampled_from([True, True, True, True, False])
    item = st.integers(-1, 70000).map(str) | st.integers(8000, 8009).map(str) | st.text(max_size=6)
    listed = st.lists(st.tuples(item, st.sampled_from(["", " ", "abc"])).map("".join), max_size=6).map(",".join)
    keys = st.sampled_from(["llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports", "other"])
    return st.builds(
        lambda plain, gold, alive, ready, address, annotations: Pod(
            name="pod-1",
            namespace="default" if plain else "other",
            uid="7c1c",
            labels={"app": "llama", "tier": "gold"} if gold else {"app": "llama"},
            annotations=annotations,
            ip=address,
            host_ip="192.168.0.1",
            ready=ready,
            deletion_timestamp=None if alive else "2025-01-01T00:00:00Z",
        ),
        mostly,
        mostly,
        mostly,
        mostly,
        st.sampled_from(ADDRESSES) | st.sampled_from(ADDRESSES) | st.none() | st.just(""),
        st.dictionaries(keys, listed, max_size=3),
    )
