from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.model import any_slot, next_slot, nth_slot, to_endpoint_set, to_slots

SLOTS = st.sets(st.integers(0, 40) | st.integers(0, 5000))
MEMBERS = SLOTS.filter(bool)


@given(SLOTS)
def test_round_trip(slots: set[int]) -> None:
    """A set gives back its slots in ascending order, and is the sum of their bits."""
    endpoints = to_endpoint_set(slots)

    assert sum(1 << slot for slot in slots) == endpoints
    assert sorted(slots) == to_slots(endpoints)


@given(SLOTS, SLOTS)
def test_algebra(left: set[int], right: set[int]) -> None:
    """Union, intersection and difference are those of sets."""
    one, other = to_endpoint_set(left), to_endpoint_set(right)

    assert sorted(left | right) == to_slots(one | other)
    assert sorted(left & right) == to_slots(one & other)
    assert sorted(left - right) == to_slots(one & ~other)


@given(SLOTS, st.data())
def test_nth_slot(slots: set[int], data: st.DataObject) -> None:
    """Members are counted from 0 in ascending order; others do not exist."""
    n = data.draw(st.integers(-1, len(slots)))
    endpoints = to_endpoint_set(slots)

    if 0 <= n < len(slots):
        assert sorted(slots)[n] == nth_slot(endpoints, n)
    else:
        with pytest.raises(IndexError, match=f"no member {n} in a set of {len(slots)}"):
            nth_slot(endpoints, n)


@given(MEMBERS, st.integers(0, 9))
def test_any_slot(slots: set[int], seed: int) -> None:
    """A draw is a member."""
    assert any_slot(to_endpoint_set(slots), Random(seed)) in slots


def test_any_slot_is_uniform() -> None:
    """Each of three members is drawn about as often as the others."""
    rng, endpoints = Random(7), to_endpoint_set([0, 3, 70])
    drawn = [any_slot(endpoints, rng) for _ in range(3000)]

    assert {0, 3, 70} == set(drawn)
    assert all(900 < drawn.count(slot) < 1100 for slot in (0, 3, 70))


@given(MEMBERS, st.integers(-1, 5001))
def test_next_slot(slots: set[int], after: int) -> None:
    """The next member is the first one above, or else the lowest."""
    above = [slot for slot in slots if slot > after]

    assert min(above or slots) == next_slot(to_endpoint_set(slots), after)


def test_empty() -> None:
    """An empty set has no member to give."""
    assert 0 == to_endpoint_set([])
    assert [] == to_slots(0)
    with pytest.raises(IndexError):
        any_slot(0, Random(0))
    with pytest.raises(IndexError, match="empty set"):
        next_slot(0, -1)
