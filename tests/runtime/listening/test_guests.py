"""Who gets a place, and who loses one."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError
from inferencepool.runtime._listening import (
    CONNECTION_LIMITS,
    ConnectionLimits,
    Guest,
    Guests,
    LimitTally,
    read_networks,
)
from inferencepool.testing import ManualClock


class Hall:
    """Guests that go at once when they are asked to, and a note of who was."""

    def __init__(self, **limits: Any) -> None:
        self.tally = LimitTally("test", CONNECTION_LIMITS, ManualClock())
        self.guests = Guests(
            ConnectionLimits(**{"connections": 100, "connections_per_peer": None, **limits}), self.tally
        )
        self.gone: list[str] = []

    def come(self, name: str, address: str = "10.0.0.1", *, stays: bool = False) -> Guest | None:
        """Let one come that leaves when asked, or *stays* for a while."""
        guest = self.guests.admit(address)
        if guest is not None:

            def go() -> None:
                self.gone.append(name)
                if not stays:
                    guest.leave()

            guest.on_close = go
        return guest


def working(guest: Guest | None) -> Guest:
    """Give it work."""
    assert guest is not None
    guest.work()
    return guest


def test_those_that_never_worked_go_first() -> None:
    """Then those that have rested for the longest time; those that work never go."""
    hall = Hall(connections=4)
    first, second, busy = (working(hall.come(name)) for name in ("first", "second", "busy"))
    hall.come("newcomer")
    second.rest()
    first.rest()
    for _ in range(3):
        working(hall.come("later"))

    assert ["newcomer", "second", "first"] == hall.gone
    assert 4 == len(hall.guests)
    assert hall.come("too many") is None
    assert 4 == hall.tally.counts["connections"]
    busy.leave()
    assert hall.come("fits") is not None


def test_a_peer_takes_its_own_places_only() -> None:
    """Beyond its limit a peer loses its own connections; others keep theirs."""
    hall = Hall(connections_per_peer=2)
    hall.come("other", "10.0.0.2")
    for name in "abc":
        hall.come(name)
    assert ["a"] == hall.gone
    for name in "de":
        working(hall.come(name))
    assert ["a", "b", "c"] == hall.gone
    assert hall.come("f") is None
    assert hall.come("g", "10.0.0.3") is not None
    assert {"connections_per_peer": 4} == {name: count for name, count in hall.tally.counts.items() if count}


@pytest.mark.parametrize(
    ("one", "another", "alike"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),
    ],
)
def test_what_a_peer_is(one: str, another: str, alike: bool) -> None:
    """An address, and in IPv6 what one customer gets."""
    hall = Hall(connections_per_peer=1)
    working(hall.come("one", one))
    assert alike is (hall.come("another", another) is None)


def test_exempt_peers() -> None:
    """They count for the whole server only."""
    hall = Hall(connections=3, connections_per_peer=1, exempt_peers=read_networks("test", ["10.0.0.0/8", "::1"]))
    for _ in range(3):
        working(hall.come("gateway", "10.1.2.3"))
    assert hall.come("gateway", "10.1.2.3") is None
    assert 0 == hall.tally.counts["connections_per_peer"]


@pytest.mark.parametrize("networks", ["10.0.0.1", 5, [5], ["10.0.0"], ["10.0.0.1/33"], [None]])
def test_networks_that_cannot_be(networks: Any) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=r"^option: "):
        read_networks("option", networks)


def test_the_oldest_handshake_goes() -> None:
    """There are as many at a time as allowed."""
    hall = Hall(handshakes=2)
    guests = [hall.come(name) for name in "abc"]
    for guest in guests:
        assert guest is not None
        hall.guests.begin_handshake(guest)
    assert ["a"] == hall.gone
    assert guests[1] is not None
    hall.guests.end_handshake(guests[1])
    late = hall.come("d")
    assert late is not None
    hall.guests.begin_handshake(late)
    assert ["a"] == hall.gone


def test_those_that_take_their_time_to_go_are_bounded() -> None:
    """Whoever is asked to go may take a moment, but not everybody at the same time."""
    hall = Hall(connections=16)
    for _ in range(16):
        hall.come("slow", stays=True)
    admitted = [hall.come("new") for _ in range(10)]
    assert [True] * 3 + [False] * 7 == [guest is not None for guest in admitted]


@given(st.lists(st.tuples(st.sampled_from(["come", "work", "rest", "leave"]), st.integers(0, 9), st.integers(0, 3))))
def test_counts_hold_in_any_order(steps: list[tuple[str, int, int]]) -> None:
    """Whatever happens in whichever order: never more than allowed, and in the end nothing is left."""
    hall = Hall(connections=5, connections_per_peer=3)
    present: list[Guest] = []
    for step, number, peer in steps:
        if step == "come":
            guest = hall.come("x", f"10.0.0.{peer}")
            present += [guest] if guest is not None else []
        elif present:
            getattr(present[number % len(present)], step)()
        assert len(hall.guests) <= 5
    for guest in present:
        guest.leave()
        guest.rest()
    assert 0 == len(hall.guests)
    assert {} == hall.guests._peers
    assert hall.guests._all.first() is None


def test_a_limit_is_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """However often it acts, one line in ten seconds, which tells how often."""
    clock = ManualClock()
    tally = LimitTally("test", ["a", "b"], clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            tally.acted("a", peer="10.0.0.1")
        tally.acted("b", reason="x")
        clock.advance(10)
        tally.acted("a")
    told = [record.__dict__["fields"] for record in caplog.records]

    assert [
        {"server": "test", "limit": "a", "times": 1, "peer": "10.0.0.1"},
        {"server": "test", "limit": "b", "times": 1, "reason": "x"},
        {"server": "test", "limit": "a", "times": 1000},
    ] == told
    assert {"a": 1001, "b": 1} == tally.counts
