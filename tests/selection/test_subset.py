from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.model import Fleet, to_endpoint_set, to_slots
from inferencepool.selection import narrow, parse_subset
from tests.strategies.selection import elements, fleet_of, fleets, hints, named

V4 = ("10.0.0.1", "10.0.0.2")
V6 = ("fd00::1", "fd00::2")


@pytest.fixture(name="fleet", scope="module")
def _fleet() -> Fleet:
    """Give two IPv4 and two IPv6 addresses, each with the ports 8080 and 9090."""
    return fleet_of(*((address, port) for address in V4 + V6 for port in (8080, 9090)))


class TestParse:
    @pytest.mark.parametrize(
        ("hint", "expected"),
        [
            ("", ()),
            (" , ,", ()),
            ([], ()),
            ("10.0.0.1", ("10.0.0.1",)),
            (" 10.0.0.1:80 ,\t[::1]:80,", ("10.0.0.1:80", "[::1]:80")),
            (["10.0.0.1", "10.0.0.2"], ("10.0.0.1", "10.0.0.2")),
            (["10.0.0.1, 10.0.0.2", "10.0.0.3"], ("10.0.0.1", "10.0.0.2", "10.0.0.3")),
            ([7, "10.0.0.1", None, ["10.0.0.2"]], ("10.0.0.1",)),
            ([7, None], ()),
            (["10.0.0.2", "10.0.0.1", "10.0.0.2"], ("10.0.0.2", "10.0.0.1", "10.0.0.2")),
        ],
    )
    def test_elements(self, hint: str | list[object], expected: tuple[str, ...]) -> None:
        """Texts are split at commas and trimmed, in order; what is empty or no text is skipped."""
        assert expected == parse_subset(hint)

    def test_reads_an_iterator(self) -> None:
        """A hint may be any iterable, a generator too."""
        assert ("a", "b") == parse_subset(text for text in ("a", "b"))

    @given(hints())
    def test_idempotent(self, hint: str | list[object]) -> None:
        """Parsing what was parsed changes nothing, in either form."""
        parsed = parse_subset(hint)

        assert parsed == parse_subset(parsed)
        assert parsed == parse_subset(",".join(parsed))

    @given(hints())
    def test_elements_are_bare(self, hint: str | list[object]) -> None:
        """No element is empty, holds a comma or begins or ends with space."""
        for element in parse_subset(hint):
            assert element
            assert "," not in element
            assert element == element.strip()


class TestReferenceCases:
    """What the reference pickers test, protocol section 2.3 (the light picker's cases are port-aware)."""

    @pytest.mark.parametrize(
        ("hint", "expected"),
        [
            ("10.0.0.1:8080", [0]),
            ("10.0.0.1", [0, 1]),
            ("10.0.0.1:8080,10.0.0.2", [0, 2, 3]),
            ("10.0.0.1:3000", []),
            ([], []),
            (["192.0.2.9"], []),
            (["10.0.0.1"], [0, 1]),
            (["10.0.0.1", "10.0.0.2"], [0, 1, 2, 3]),
            ([17, "10.0.0.1"], [0, 1]),
            ([17], []),
        ],
    )
    def test_port_aware(self, fleet: Fleet, hint: str | list[object], expected: list[int]) -> None:
        """`ip:port` names that port, a bare ip all its ports, and what is unknown nothing."""
        assert expected == to_slots(narrow(fleet, hint))

    @pytest.mark.parametrize(
        ("hint", "expected"),
        [
            (["10.0.0.1"], [0]),
            (["10.0.0.1:9999"], [0]),
            (["10.0.0.1:8000", "10.0.0.3:8000"], [0, 2]),
            (["192.0.2.9:8000"], []),
            ([], []),
            ([17, "10.0.0.1:8000"], [0]),
        ],
    )
    def test_address_only(self, hint: list[object], expected: list[int]) -> None:
        """With *ignore_ports* the cases of the full picker hold: only the address counts."""
        fleet = fleet_of(("10.0.0.1", 8000), ("10.0.0.2", 8000), ("10.0.0.3", 8000))

        assert expected == to_slots(narrow(fleet, hint, ignore_ports=True))

    @pytest.mark.parametrize(
        ("hint", "expected"),
        [
            ("10.0.0.1", [0, 1, 2]),
            ("10.0.0.1,10.0.0.2:3002", [0, 1, 2, 4]),
            ("10.0.0.1,10.0.0.2,10.0.0.3:3000,10.0.0.3:3004", [0, 1, 2, 3, 4, 5, 6, 8]),
        ],
    )
    def test_data_parallel_conformance(self, hint: str, expected: list[int]) -> None:
        """The gateway conformance suite's mixes of addresses and ports name what it expects."""
        fleet = fleet_of(*((f"10.0.0.{pod}", port) for pod in (1, 2, 3) for port in (3000, 3002, 3004)))

        assert expected == to_slots(narrow(fleet, hint))

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_gateway_routing_conformance(self, count: int) -> None:
        """One, two or three addresses name just these pods."""
        fleet = fleet_of(*((f"10.0.0.{pod}", 3000) for pod in (1, 2, 3)))

        assert list(range(count)) == to_slots(narrow(fleet, [f"10.0.0.{pod + 1}" for pod in range(count)]))


class TestSpellings:
    @pytest.mark.parametrize(
        ("element", "expected"),
        [
            ("[fd00::1]:8080", [4]),
            ("[fd00::1]", [4, 5]),
            ("fd00::1", [4, 5]),
            ("FD00::1", [4, 5]),
            ("[FD00:0::1]:9090", [5]),
            ("fd00:0000:0000:0000:0000:0000:0000:0001", [4, 5]),
            ("[fd00::0.0.0.2]:8080", [6]),
        ],
    )
    def test_ipv6(self, fleet: Fleet, element: str, expected: list[int]) -> None:
        """IPv6 may stand in any spelling, with brackets or, alone, without."""
        assert expected == to_slots(narrow(fleet, element))

    @pytest.mark.parametrize("ignore_ports", [False, True])
    @pytest.mark.parametrize(
        "element",
        [
            "fd00::1:8080",
            "[fd00::1",
            "fd00::1]",
            "[fd00::1]8080",
            "[fd00::1]:",
            "[fd00::1]:http",
            "[fd00::1]x8080",
            "[]",
            "[]:8080",
            "[[fd00::1]]:8080",
            "[10.0.0.1]",
            "[10.0.0.1]:8080",
            "[10.0.0.1:8080]",
            "10.0.0.1:",
            "10.0.0.1:http",
            "10.0.0.1:-8080",
            "10.0.0.1:+8080",
            "10.0.0.1:\u0668\u0660\u0668\u0660",
            "10.0.0.1:8080:8080",
            ":8080",
            ":",
            "10.0.0.01",
            "10.0.1",
            "167772161",
            "http://10.0.0.1:8080",
            "fe80::1%eth0",
            "pod-1",
            "default/pod-1-rank-0",
            "\x00",
            "\ud800",
            "9" * 5000,
            "10.0.0.1:x" + "9" * 5000,
        ],
    )
    def test_malformed(self, fleet: Fleet, element: str, ignore_ports: bool) -> None:
        """What is no address names nothing and does no harm to its neighbours."""
        assert narrow(fleet, element, ignore_ports=ignore_ports) == 0
        assert [2, 3] == to_slots(narrow(fleet, ["10.0.0.2", element], ignore_ports=ignore_ports))

    @pytest.mark.parametrize("element", ["10.0.0.1:08080", "[FD00::1]:08080", "10.0.0.1:" + "9" * 5000])
    def test_port_has_one_spelling(self, fleet: Fleet, element: str) -> None:
        """A port with leading zeros, or beyond all numbers, is not another port's name."""
        assert narrow(fleet, element) == 0

    def test_unbracketed_ipv6_is_an_address(self) -> None:
        """What could be an address or an address with a port is taken as the address."""
        fleet = fleet_of(("fd00::1", 8000), ("fd00::1:8000", 80))

        assert [1] == to_slots(narrow(fleet, "fd00::1:8000"))
        assert [1] == to_slots(narrow(fleet, "fd00::1:8000", ignore_ports=True))

    def test_mapped_address_stays_ipv6(self) -> None:
        """An IPv4-mapped address is another one than the IPv4 address in it."""
        fleet = fleet_of(("10.0.0.1", 80), ("::ffff:10.0.0.1", 80))

        assert [0] == to_slots(narrow(fleet, "10.0.0.1"))
        assert [1] == to_slots(narrow(fleet, "[::FFFF:a00:1]:80"))
        assert [1] == to_slots(narrow(fleet, "::ffff:10.0.0.1"))

    def test_address_only_ipv6(self, fleet: Fleet) -> None:
        """With *ignore_ports* a bracketed address with any port names all ports there."""
        assert [4, 5] == to_slots(narrow(fleet, "[FD00::1]:1", ignore_ports=True))

    def test_name_of_a_host(self) -> None:
        """An endpoint whose address is a host name is named by it, exactly spelled."""
        fleet = fleet_of(("gpu-1.example.com", 80), ("gpu-1.example.com", 81))

        assert [1] == to_slots(narrow(fleet, "gpu-1.example.com:81"))
        assert [0, 1] == to_slots(narrow(fleet, "gpu-1.example.com"))
        assert [0, 1] == to_slots(narrow(fleet, "gpu-1.example.com:82", ignore_ports=True))


class TestLaws:
    @given(fleets(), hints(), st.booleans())
    def test_equals_asking_every_endpoint(self, fleet: Fleet, hint: str | list[object], ignore_ports: bool) -> None:
        """Looking up the elements gives the same as asking every endpoint whether an element means it."""
        assert named(fleet, hint, ignore_ports=ignore_ports) == narrow(fleet, hint, ignore_ports=ignore_ports)

    @given(fleets(), hints(), hints(), st.booleans())
    def test_union(self, fleet: Fleet, left: str | list[object], right: str | list[object], ignore_ports: bool) -> None:
        """Two hints together name what either of them names."""
        both = parse_subset(left) + parse_subset(right)
        expected = narrow(fleet, left, ignore_ports=ignore_ports) | narrow(fleet, right, ignore_ports=ignore_ports)

        assert expected == narrow(fleet, both, ignore_ports=ignore_ports)

    @given(fleets(), hints())
    def test_ports_only_restrict(self, fleet: Fleet, hint: str | list[object]) -> None:
        """Looking at ports names no more than ignoring them, and nothing outside the fleet."""
        found = narrow(fleet, hint)
        wider = narrow(fleet, hint, ignore_ports=True)

        assert found | wider == wider
        assert wider | fleet.members == fleet.members

    @given(fleets())
    def test_destinations_name_all(self, fleet: Fleet) -> None:
        """The destinations of all endpoints name all of them; so do their addresses."""
        endpoints = [fleet.at(slot) for slot in fleet.slots]

        assert fleet.members == narrow(fleet, [endpoint.destination for endpoint in endpoints])
        assert fleet.members == narrow(fleet, ",".join(endpoint.address for endpoint in endpoints))

    @given(fleets(), st.lists(elements(), max_size=6), st.data())
    def test_order_and_repetition(self, fleet: Fleet, hint: list[str], data: st.DataObject) -> None:
        """Neither the order of the elements nor naming one twice matters."""
        shuffled = data.draw(st.permutations(hint * 2))

        assert narrow(fleet, hint) == narrow(fleet, shuffled)

    @given(st.text(max_size=30))
    def test_any_text_is_harmless(self, text: str) -> None:
        """No text whatever raises, and an empty fleet has nothing to name."""
        assert narrow(Fleet(), text) == 0
        assert narrow(Fleet(), [text], ignore_ports=True) == to_endpoint_set([])
