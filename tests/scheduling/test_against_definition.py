"""The fast path and the scan, held to the definition: every scorer asked about every candidate."""

from __future__ import annotations

import os
from collections.abc import Sized
from random import Random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import NoEndpointsError
from inferencepool.model import Endpoint, EndpointMetrics, Fleet, InferenceRequest, Snapshot, to_endpoint_set, to_slots
from inferencepool.scheduling import (
    ONE,
    PickResult,
    PlainScorer,
    Scheduler,
    SchedulingProfile,
    WeightedScorer,
)
from tests.strategies.fleets import (
    ADAPTERS,
    PrefixLike,
    Spy,
    endpoint,
    metrics,
    nested_sets,
    scorers,
    snapshot_of,
    totals,
)

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
SIZES = [1, 2, 3, 7, 20, 64, 300]


class Indifferent:
    """A plain scorer that gives everybody 0: it changes no score, and makes the scheduler scan."""

    def score(self, _request: InferenceRequest, candidates: Sized) -> list[float]:
        """Give 0."""
        return [0.0] * len(candidates)


class NotZoneB:
    """An endpoint filter."""

    def keep(self, endpoint: Endpoint) -> bool:
        """Refuse one zone."""
        return endpoint.labels["zone"] != "b"


@attrs.define(eq=False, slots=False)
class Life:
    """One fleet's life: picks of every kind, releases, departures and new snapshots, with the truth kept beside it."""

    rng: Random
    size: int
    scanning: bool
    clock: float = 0.0
    pending: list[int] = attrs.field(init=False)
    held: list[tuple[PickResult, float]] = attrs.field(factory=list)
    departed: set[int] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        rng = self.rng
        self.spread, self.coarse = rng.choice([1, 2, 5, 40, 1000]), rng.random() < 0.4
        self.prefix = PrefixLike()
        self.scorers = scorers(rng, self.prefix)
        self.filters = [NotZoneB()] if rng.random() < 0.3 else []
        self.spy = Spy()
        plain: list[PlainScorer] = [Indifferent()] if self.scanning else []
        profile = SchedulingProfile(
            filters=self.filters,
            scorers=[*self.scorers, *map(WeightedScorer, plain)],
            picker=self.spy,
            max_num_of_endpoints=rng.choice([1, 1, 3, 5]),
        )
        self.count = profile.max_num_of_endpoints
        self.scheduler = Scheduler(profile, rng=rng, clock=lambda: self.clock)
        holes = {slot for slot in range(self.size) if rng.random() < 0.05} if self.size > 3 else set()
        self.endpoints = [None if slot in holes else endpoint(slot) for slot in range(self.size)]
        members = to_endpoint_set(slot for slot in range(self.size) if slot not in holes)
        self.fleet = Fleet(tuple(self.endpoints), tuple(range(self.size)), members)
        self.pending = [0] * self.size
        self.generation = 0
        self.subsets = [
            self._addresses(rng.sample(range(self.size), rng.randrange(1, self.size + 1))) for _ in range(3)
        ]
        self.publish(observe=False)

    def _addresses(self, slots: list[int]) -> list[str]:
        return [found.destination for slot in slots if (found := self.endpoints[slot]) is not None]

    def publish(self, *, observe: bool) -> None:
        """A new snapshot; when *observe*, of metrics whose scrape began just now."""
        self.generation += 1
        self.clock += 1
        loads = [
            EndpointMetrics() if item is None else metrics(self.rng, self.spread, coarse=self.coarse)
            for item in self.endpoints
        ]
        seen = [self.clock if observe and self.rng.random() < 0.7 else float("-inf") for _ in loads]
        chance = self.rng.choice([0.0, 0.0, 0.3, 1.0])
        self.snapshot = snapshot_of(
            self.endpoints,
            loads,
            generation=self.generation,
            fleet=self.fleet,
            observed_at=seen,
            avoided=to_endpoint_set(slot for slot in range(self.size) if self.rng.random() < chance),
        )
        for result, picked_at in self.held:
            if picked_at < seen[result.slot]:
                self.pending[result.slot] -= 1
        self.held = [(r, float("inf") if at < seen[r.slot] else at) for r, at in self.held]
        self.departed.clear()
        self.clock += 1

    def members(self, subset: list[str] | None) -> list[int]:
        """The candidates by the definition, departed ones included: they still count for the extremes."""
        members = [
            slot
            for slot in to_slots(self.fleet.members)
            if all(item.keep(self.fleet.at(slot)) for item in self.filters)
            and (subset is None or self.fleet.at(slot).destination in subset)
        ]
        rest = [slot for slot in members if not self.snapshot.avoided >> slot & 1]
        return rest if set(rest) - self.departed else members

    def pick(self) -> None:
        """Pick once, and hold everything about it to the definition."""
        rng = self.rng
        self.prefix.sets = nested_sets(rng, self.size)
        request = InferenceRequest(model=rng.choice(ADAPTERS))
        subset = (
            None
            if rng.random() < 0.5
            else rng.choice([*self.subsets, self._addresses(rng.sample(range(self.size), 1)), []])
        )
        members = self.members(subset)
        alive = [slot for slot in members if slot not in self.departed]
        departed = to_endpoint_set(self.departed)
        if not alive:
            with pytest.raises(NoEndpointsError):
                self.scheduler.schedule(request, self.snapshot, departed=departed, subset=subset)
            return
        scores = totals(self.scorers, request, self.snapshot, members, self.pending)
        best = max(scores[slot] for slot in alive)

        result = self.scheduler.schedule(request, self.snapshot, departed=departed, subset=subset)

        assert {slot for slot in alive if scores[slot] == best} == set(to_slots(self.spy.winners))
        assert best == self.spy.best
        chosen = [result.slot, *result.fallback_slots]
        assert sorted((scores[slot] for slot in alive), reverse=True)[: self.count] == [scores[s] for s in chosen]
        assert len(chosen) == len(set(chosen))
        explanation = result.explain()
        assert explanation.exact
        assert {self.fleet.at(s).id: scores[s] for s in alive} == {
            item.endpoint.id: round(item.total * ONE) for item in explanation.candidates
        }
        assert result.endpoint == explanation.picked.endpoint
        self.pending[result.slot] += 1
        self.held.append((result, self.clock))

    def release(self) -> None:
        """Release a random pick, twice."""
        if self.held:
            result, picked_at = self.held.pop(self.rng.randrange(len(self.held)))
            if picked_at != float("inf"):
                self.pending[result.slot] -= 1
            result.release()
            result.release()

    def live(self, steps: int) -> None:
        """Do *steps* things at random."""
        for _ in range(steps):
            self.clock += 0.001
            self.pick()
            for _ in range(self.rng.choice([0, 0, 1, 2])):
                self.release()
            chance = self.rng.random()
            if chance < 0.03 and self.fleet.members:
                self.departed.add(self.rng.choice(to_slots(self.fleet.members)))
            elif chance < 0.08:
                self.publish(observe=self.rng.random() < 0.5)
        assert self.scheduler.in_flight == len(self.held)


@pytest.mark.parametrize("scanning", [False, True], ids=["ranking", "scan"])
@given(seed=st.integers(0, 2**32), size=st.sampled_from(SIZES))
def test_every_pick_has_the_winners_of_the_definition(scanning: bool, seed: int, size: int) -> None:
    """Winner set, ties, fallbacks, reservations and explanation equal those of scoring everybody with everything."""
    Life(Random(seed), size, scanning).live(25)


@pytest.mark.parametrize("size", [1_000, 3_000, 10_000] if THOROUGH else [2_500])
def test_large_fleets_have_the_winners_of_the_definition(size: int) -> None:
    """Fleets above the limit for one set per rank are searched as exactly as small ones."""
    Life(Random(size), size, scanning=False).live(30 if THOROUGH else 6)


def test_a_snapshot_that_is_older_than_the_last_is_answered_from_the_last() -> None:
    """A thread that was slow between reading the snapshot and picking picks from what is there now."""

    def lone(slot: int, generation: int) -> Snapshot:
        return snapshot_of([endpoint(slot)], [EndpointMetrics()], generation=generation)

    scheduler = Scheduler(SchedulingProfile(), rng=Random(1))
    older, newer = lone(0, 1), lone(2, 2)
    scheduler.adopt(newer)

    assert endpoint(2) == scheduler.schedule(InferenceRequest(), older).endpoint
