"""Pods with several addresses: requests go to the first one, and hints may name any."""

from __future__ import annotations

import attrs
import pytest

from inferencepool import EndpointPicker, EndpointRegistry
from inferencepool.errors import NoEndpointsError
from inferencepool.model import InferenceRequest, Pod
from inferencepool.selection import expand
from inferencepool.testing import make_pod, make_pool


def dual_stack(name: str, number: int) -> Pod:
    """Give a ready pod with an IPv4 and an IPv6 address, the second one spelled in an unusual way."""
    pod = make_pod(name, ip=f"10.0.0.{number}")
    return attrs.evolve(pod, ips=(f"10.0.0.{number}", f"FD00:0::{number}"))


@pytest.fixture(name="picker", scope="module")
def _picker() -> EndpointPicker:
    """Give a picker for two such pods with two ports each."""
    registry = EndpointRegistry()
    registry.set_pool(make_pool(ports=(8000, 8001)))
    registry.resync([dual_stack("a", 1), dual_stack("b", 2)])
    return EndpointPicker(registry)


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        ("fd00::1", {"10.0.0.1:8000", "10.0.0.1:8001"}),
        ("10.0.0.2", {"10.0.0.2:8000", "10.0.0.2:8001"}),
        ("[fd00::1]:8001", {"10.0.0.1:8001"}),
        ("[fd00::1]:8001,10.0.0.2:8000", {"10.0.0.1:8001", "10.0.0.2:8000"}),
        ("FD00::0:2", {"10.0.0.2:8000", "10.0.0.2:8001"}),
    ],
)
def test_a_hint_with_any_address_names_the_pod(picker: EndpointPicker, hint: str, expected: set[str]) -> None:
    """With the port that it says, and by its first address the request is sent."""
    picked = set()
    for _ in range(60):
        with picker.pick(InferenceRequest(), hint) as result:
            picked.add(result.destination)
    assert expected == picked


def test_other_addresses_are_not_those_of_others(picker: EndpointPicker) -> None:
    """What no pod has names nobody."""
    with pytest.raises(NoEndpointsError):
        picker.pick(InferenceRequest(), "fd00::3")


def test_expansion_tells_them() -> None:
    """In canonical spelling, each once, and without the one that requests are sent to."""
    pod = attrs.evolve(dual_stack("a", 1), ips=("10.0.0.1", "FD00::1", "fd00:0::1", "10.0.0.1"))
    (endpoint,) = expand(make_pool(), pod)
    assert ("10.0.0.1", ("fd00::1",)) == (endpoint.address, endpoint.other_addresses)
    (single,) = expand(make_pool(), make_pod("b"))
    assert () == single.other_addresses


def test_an_address_that_comes_later() -> None:
    """It names the pod from then on; the endpoint stays the same one."""
    registry = EndpointRegistry()
    registry.set_pool(make_pool())
    registry.resync([make_pod("a", ip="10.0.0.1")])
    picker = EndpointPicker(registry)
    registry.resync([dual_stack("a", 1)])
    assert "10.0.0.1:8000" == picker.pick(InferenceRequest(), "fd00::1").destination
