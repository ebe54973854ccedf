"""Fleets, keys and traffic for the tests of consistent hashing."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from inferencepool.model import Endpoint, EndpointMetrics, Fleet, Snapshot
from tests.strategies.fleets import endpoint, snapshot_of


def keys() -> st.SearchStrategy[str]:
    """Header values: any text, surrogates as well, that is not empty."""
    return st.text(min_size=1, max_size=8)


@st.composite
def placements(draw: st.DrawFn, least: int = 1, most: int = 12) -> list[Endpoint | None]:
    """Endpoints by slot, in any order and with free slots between."""
    numbers = draw(st.lists(st.integers(0, 40), min_size=least, max_size=most, unique=True))
    slots: list[int | None] = [*numbers, *[None] * draw(st.integers(0, 3))]
    return [None if number is None else endpoint(number) for number in draw(st.permutations(slots))]


def idle(endpoints: Sequence[Endpoint | None], generation: int = 1, fleet: Fleet | None = None) -> Snapshot:
    """A snapshot of endpoints without load."""
    return snapshot_of(endpoints, [EndpointMetrics()] * len(endpoints), generation=generation, fleet=fleet)


def traffic() -> st.SearchStrategy[list[tuple[str, int]]]:
    """Keys of requests, each with how many of the requests in flight end before it."""
    few_keys = st.sampled_from(["a", "b", "c"]) | keys()
    return st.lists(st.tuples(few_keys, st.integers(0, 3)), max_size=40)
