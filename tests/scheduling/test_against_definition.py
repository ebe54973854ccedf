"""The fast path and the scan, held to the definition: every scorer asked about every candidate."""

from __future__ import annotations

import os
from collections.abc import Sized
from random import Random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import EndpointsFilteredError, NoEndpointsError
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
    Chosen,
    Counts,
    PrefixLike,
    Spy,
    Work,
    endpoint,
    metrics,
    nested_sets,
    random_demand,
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


@attrs.define(eq=False)
class Held:
    """A pick in flight: whether it is pending, and what it still adds by each measure."""

    result: PickResult
    picked_at: float
    amounts: dict[Work, int]
    is_pending: bool = True


@attrs.define(eq=False, slots=False)
class Life:
    """One fleet's life: picks of every kind, releases, departures and new snapshots, with the truth kept beside it."""

    rng: Random
    size: int
    scanning: bool
    clock: float = 0.0
    counts: Counts = attrs.field(init=False)
    held: list[Held] = attrs.field(factory=list)
    departed: set[int] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        rng = self.rng
        self.spread, self.coarse = rng.choice([1, 2, 5, 40, 1000]), rng.random() < 0.4
        self.prefix = PrefixLike()
        self.scorers = scorers(rng, self.prefix)
        self.filters = [NotZoneB()] if rng.random() < 0.3 else []
        self.chosen = [Chosen(rng.random() < 0.5) for _ in range(rng.choice([0, 0, 1, 2]))]
        self.works = [item.scorer for item in self.scorers if isinstance(item.scorer, Work)]
        self.spy = Spy()
        plain: list[PlainScorer] = [Indifferent()] if self.scanning else []
        profile = SchedulingProfile(
            filters=[*self.filters, *self.chosen],
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
        amounts = {work: [0] * self.size for work in self.works}
        self.counts = Counts([0] * self.size, [0] * self.size, amounts)
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
        for held in self.held:
            if held.is_pending and held.picked_at < seen[held.result.slot]:
                held.is_pending = False
                self.counts.pending[held.result.slot] -= 1
        self.departed.clear()
        self.clock += 1

    def members(self, subset: list[str] | None) -> list[int]:
        """The endpoints that are allowed by the definition, departed ones too: they still count for the extremes."""
        return [
            slot
            for slot in to_slots(self.fleet.members)
            if all(item.keep(self.fleet.at(slot)) for item in self.filters)
            and (subset is None or self.fleet.at(slot).destination in subset)
        ]

    def candidates(self, subset: list[str] | None) -> tuple[list[int], list[int]]:
        """
        The candidates by the definition, without and with preferences.

        Endpoints that are to be avoided are among them only where the filters keep no other.
        """
        allowed = self.members(subset)
        rest = [slot for slot in allowed if not self.snapshot.avoided >> slot & 1]
        if not set(self.narrow(rest, with_preferences=True)) - self.departed:
            rest = allowed
        return self.narrow(rest, with_preferences=False), self.narrow(rest, with_preferences=True)

    def narrow(self, members: list[int], *, with_preferences: bool) -> list[int]:
        """
        Apply the set filters by the definition: one that leaves out anything leaves out the departed ones too.

        Where a rule leaves nothing of what preferences kept, they are as if they had not been asked.
        """
        wide = members
        for item in self.chosen:
            if not item.is_preference:
                wide, members = self.kept_by(item, wide), self.kept_by(item, members)
                members = members or wide
            elif with_preferences:
                members = self.kept_by(item, members) or members
        return members

    def kept_by(self, item: Chosen, members: list[int]) -> list[int]:
        """Apply one set filter."""
        alive = [slot for slot in members if slot not in self.departed]
        kept = [slot for slot in alive if item.kept >> slot & 1]
        return members if kept == alive else kept

    def tell_strategies(self) -> None:
        """Say what the strategies of the next pick give."""
        rng = self.rng
        self.prefix.sets = nested_sets(rng, self.size)
        for work in self.works:
            work.demand = random_demand(rng, self.size)
        for item in self.chosen:
            share = rng.choice([0.0, 0.02, 0.5, 1, 1])
            item.kept = to_endpoint_set(slot for slot in range(self.size + 2) if rng.random() <= share)

    def pick(self) -> None:
        """Pick once, and hold everything about it to the definition."""
        rng = self.rng
        self.tell_strategies()
        request = InferenceRequest(model=rng.choice(ADAPTERS))
        subset = (
            None
            if rng.random() < 0.5
            else rng.choice([*self.subsets, self._addresses(rng.sample(range(self.size), 1)), []])
        )
        wide, members = self.candidates(subset)
        alive = [slot for slot in members if slot not in self.departed]
        departed = to_endpoint_set(self.departed)
        if not alive:
            with pytest.raises((NoEndpointsError, EndpointsFilteredError)):
                self.scheduler.schedule(request, self.snapshot, departed=departed, subset=subset)
            return
        scores = totals(self.scorers, request, self.snapshot, members, self.counts, alive)
        best = max(scores[slot] for slot in alive)

        result = self.scheduler.schedule(request, self.snapshot, departed=departed, subset=subset)

        assert {slot for slot in alive if scores[slot] == best} == set(to_slots(self.spy.winners))
        assert best == self.spy.best
        chosen = [result.slot, *result.fallback_slots]
        first = [slot for slot in chosen if slot in alive]
        assert sorted((scores[slot] for slot in alive), reverse=True)[: self.count] == [scores[s] for s in first]
        assert len(chosen) == len(set(chosen))
        self.check_others(chosen, [slot for slot in wide if slot not in self.departed], alive, wide, request)
        explanation = result.explain()
        assert explanation.exact
        assert {item.place for item in explanation.rejected if item.place} == set(
            range(len(first) + 1, len(chosen) + 1)
        )
        assert {self.fleet.at(s).id: scores[s] for s in alive} == {
            item.endpoint.id: round(item.total * ONE) for item in explanation.candidates
        }
        assert result.endpoint == explanation.picked.endpoint
        self.counts.pending[result.slot] += 1
        self.counts.in_flight[result.slot] += 1
        added = {work: work.demand.at(result.slot) for work in self.works}
        for work, amount in added.items():
            self.counts.amounts[work][result.slot] += amount
        self.held.append(Held(result, self.clock, added))

    def check_others(
        self, chosen: list[int], wide_alive: list[int], alive: list[int], wide: list[int], request: InferenceRequest
    ) -> None:
        """Behind what preferences keep, fallbacks are the best of what they leave out."""
        others = chosen[len(alive) :]
        left = [slot for slot in wide_alive if slot not in alive]
        assert len(chosen) == min(self.count, len(wide_alive))
        if others:
            scores = totals(self.scorers, request, self.snapshot, wide, self.counts, wide_alive)
            assert sorted((scores[s] for s in left), reverse=True)[: len(others)] == [scores[s] for s in others]

    def start(self) -> None:
        """Tell of a random pick that its response has begun, twice."""
        if self.held:
            held = self.rng.choice(self.held)
            for work, amount in held.amounts.items():
                if work.until_started:
                    self.counts.amounts[work][held.result.slot] -= amount
                    held.amounts[work] = 0
            held.result.started()
            held.result.started()

    def release(self) -> None:
        """Release a random pick, twice."""
        if self.held:
            held = self.held.pop(self.rng.randrange(len(self.held)))
            slot = held.result.slot
            self.counts.pending[slot] -= held.is_pending
            self.counts.in_flight[slot] -= 1
            for work, amount in held.amounts.items():
                self.counts.amounts[work][slot] -= amount
            held.result.release()
            held.result.release()
            held.result.started()

    def live(self, steps: int) -> None:
        """Do *steps* things at random."""
        for _ in range(steps):
            self.clock += 0.001
            self.pick()
            for _ in range(self.rng.choice([0, 0, 1, 2])):
                self.release()
            if self.rng.random() < 0.3:
                self.start()
            chance = self.rng.random()
            if chance < 0.03 and self.fleet.members:
                self.departed.add(self.rng.choice(to_slots(self.fleet.members)))
            elif chance < 0.08:
                self.publish(observe=self.rng.random() < 0.5)
        assert self.scheduler.in_flight == len(self.held)


@pytest.mark.parametrize("scanning", [False, True], ids=["ranking", "scan"])
@given(seed=st.integers(0, 2**32), size=st.sampled_from(SIZES))
def test_every_pick_has_the_winners_of_the_definition(scanning: bool, seed: int, size: int) -> None:
    """Winner set, ties, fallbacks, amounts in flight and explanation equal those of asking everything of everybody."""
    Life(Random(seed), size, scanning).live(25)


@pytest.mark.parametrize("size", [1_000, 3_000, 10_000] if THOROUGH else [2_500])
def test_large_fleets_have_the_winners_of_the_definition(size: int) -> None:
    """Fleets above the limit for one set per rank are searched as exactly as small ones."""
    for seed in range(4):
        Life(Random(size + seed), size, scanning=False).live(30 if THOROUGH else 3)


def test_a_snapshot_that_is_older_than_the_last_is_answered_from_the_last() -> None:
    """A thread that was slow between reading the snapshot and picking picks from what is there now."""

    def lone(slot: int, generation: int) -> Snapshot:
        return snapshot_of([endpoint(slot)], [EndpointMetrics()], generation=generation)

    scheduler = Scheduler(SchedulingProfile(), rng=Random(1))
    older, newer = lone(0, 1), lone(2, 2)
    scheduler.adopt(newer)

    assert endpoint(2) == scheduler.schedule(InferenceRequest(), older).endpoint
