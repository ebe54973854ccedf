"""Levels, held to a plain list of counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferencepool.model import to_endpoint_set
from inferencepool.scheduling._levels import Levels

SIZE = 6
SLOTS = st.integers(0, SIZE - 1)
ACTIONS = st.lists(st.tuples(SLOTS, st.sampled_from([1, -1, 1, -1, None])), max_size=40)


@given(start=st.lists(st.integers(0, 2), min_size=SIZE, max_size=SIZE), shown=st.frozensets(SLOTS), actions=ACTIONS)
def test_levels_equal_a_list_of_counts(
    start: list[int], shown: frozenset[int], actions: list[tuple[int, int | None]]
) -> None:
    """Whatever moves or hides: each shown slot is in the set of its count, and `lowest` finds the fewest."""
    levels, counts, visible = Levels.build(start, shown), list(start), set(shown)
    for slot, by in actions:
        if by is None:
            levels.hide(slot)
            visible.discard(slot)
        else:
            counts[slot] += by
            levels.place(slot, counts[slot])
        by_count: dict[int, set[int]] = {}
        for member in visible:
            by_count.setdefault(counts[member], set()).add(member)
        assert levels.counts == counts
        assert levels.sets == {count: to_endpoint_set(members) for count, members in by_count.items()}
        assert levels.values == sorted(by_count)
        among = {member for member in visible if member % 2}
        least = min((counts[member] for member in among), default=0)
        expected = to_endpoint_set(member for member in among if counts[member] == least)
        assert levels.lowest(to_endpoint_set(range(1, SIZE, 2))) == expected


@given(shown=st.frozensets(SLOTS) | st.just(frozenset(range(SIZE))))
def test_level_ground_is_built_like_any_other(shown: frozenset[int]) -> None:
    """The shortcut for counts of 0 gives what the long way gives."""
    short, long = Levels.level(SIZE, to_endpoint_set(shown), 0), Levels.build([0] * SIZE, shown)
    assert (short.counts, short.sets, short.values) == (long.counts, long.sets, long.values)
    for slot in range(SIZE):
        short.place(slot, 1)
        long.place(slot, 1)
    assert (short.sets, short.values) == (long.sets, long.values)
