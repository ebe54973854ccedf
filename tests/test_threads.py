"""Writers and pickers together, with a thread switch every few bytecodes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from random import Random
from threading import Event, Thread

import attrs
import pytest

from inferencepool.errors import NoEndpointsError
from inferencepool.model import EndpointMetrics, InferenceRequest, to_slots
from inferencepool.picker import EndpointPicker
from inferencepool.plugins import (
    ActiveRequestScorer,
    ApproxPrefixCacheProducer,
    InflightLoadProducer,
    KvCacheUtilizationScorer,
    LoadBound,
    LoraAffinityScorer,
    PrefixCacheScorer,
    QueueScorer,
    SessionAffinityFilter,
    SessionBindings,
    TokenLoadScorer,
)
from inferencepool.registry import EndpointRegistry
from inferencepool.scheduling import MaxScorePicker, PickResult, SchedulingProfile, Scorer, Standing
from inferencepool.scheduling._levels import Levels
from inferencepool.scheduling._terms import burden_of
from inferencepool.testing import make_pod, make_pool
from tests.patience import PATIENCE

SECONDS = 10.0 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 2.0
PODS = 30
ADAPTERS = ("chat", "sql", "law")


@pytest.fixture(name="_frequent_switches")
def _frequent_switches() -> Iterator[None]:
    """Let threads interrupt each other as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@attrs.define
class Judge:
    """Picks like the max-score picker, and walks all members of some picks to see that none scores higher."""

    judged: int = 0
    calls: int = 0
    wrong: list[str] = attrs.field(factory=list)
    _picker: MaxScorePicker = attrs.field(factory=MaxScorePicker)

    def choose(self, request: InferenceRequest, standing: Standing, count: int) -> Sequence[int]:
        """Choose, then walk; the scheduler's lock is held, so nothing moves meanwhile."""
        chosen = self._picker.choose(request, standing, count)
        self.calls += 1
        if self.calls % 7 == 0:
            self.judged += 1
            best = max(map(standing.score, to_slots(standing.members)))
            if standing.score(chosen[0]) != best:
                self.wrong.append(f"slot {chosen[0]} scores {standing.score(chosen[0])}, the best is {best}")
        return chosen


@attrs.define(eq=False, slots=False)
class Storm:
    """A registry and a picker that several threads work on."""

    judge: Judge = attrs.field(factory=Judge)
    errors: list[BaseException] = attrs.field(factory=list)
    ended: Event = attrs.field(factory=Event)
    picks: int = 0
    # Per pod: how many deletions returned, and how many upserts began; equal numbers mean that it is gone.
    deleted: list[int] = attrs.field(factory=lambda: [0] * PODS)
    upserted: list[int] = attrs.field(factory=lambda: [1] * PODS)

    def __attrs_post_init__(self) -> None:
        self.registry = EndpointRegistry(make_pool(ports=[8000, 8001]), publish_interval=0.002)
        for number in range(PODS):
            self.upsert(number)
        prefix = ApproxPrefixCacheProducer(lru_capacity_per_server=20)
        scorers: list[Scorer] = [
            QueueScorer(),
            KvCacheUtilizationScorer(),
            LoraAffinityScorer(),
            PrefixCacheScorer(prefix, load_bound=LoadBound(1.5, 2)),
            ActiveRequestScorer(),
            TokenLoadScorer(InflightLoadProducer(prefix), 500),
        ]
        filters = [SessionAffinityFilter(SessionBindings(capacity=5))]
        profile = SchedulingProfile(filters=filters, scorers=scorers, picker=self.judge, max_num_of_endpoints=2)
        self.picker = EndpointPicker(self.registry, profile=profile)

    def upsert(self, number: int) -> None:
        """Bring a pod."""
        self.registry.upsert_pod(make_pod(f"p{number}", ip=f"10.0.0.{number + 1}"))

    def come_and_go(self, rng: Random) -> None:
        """Delete a pod and bring it back. Only this writer deletes; the first five pods always stay."""
        number = rng.randrange(5, PODS)
        self.registry.delete_pod("default", f"p{number}")
        self.deleted[number] += 1
        if rng.random() < 0.5:
            time.sleep(0.001)
        self.upserted[number] += 1
        self.upsert(number)

    def observe(self, rng: Random) -> None:
        """Report the load of any endpoint, and now and then publish at once."""
        load = EndpointMetrics(
            waiting_queue_size=rng.randrange(4),
            kv_cache_usage=rng.choice([0.0, 0.25, 0.5]),
            active_models=rng.sample(ADAPTERS, rng.randrange(3)),
            max_active_models=rng.choice([0, 2]),
        )
        id = f"default/p{rng.randrange(PODS)}-rank-{rng.randrange(2)}"
        self.registry.observe_metrics(id, load, ignore_unknown=True)
        if rng.random() < 0.05:
            self.registry.publish()

    def pick(self, rng: Random, held: list[PickResult]) -> None:
        """Pick, check what came, and release something now and then."""
        # The upserts are counted before they begin and the deletions after they end: a pod whose upserts at the end of
        # the pick are no more than the deletions at its start was gone all the time.
        deleted = self.deleted[:]
        subset = None if rng.random() < 0.8 else [f"10.0.0.{number}" for number in rng.sample(range(1, PODS), 8)]
        try:
            prompt = rng.choice(b"abc").to_bytes() * rng.choice([100, 500]) + rng.randbytes(rng.randrange(100))
            headers = rng.choice([{}, {}, {"x-session-id": str(rng.randrange(9))}])
            request = InferenceRequest(model=rng.choice(ADAPTERS), prompt=prompt, headers=headers)
            result = self.picker.pick(request, subset)
        except NoEndpointsError:
            assert subset is not None
            return
        for slot in (result.slot, *result.fallback_slots):
            endpoint = result.snapshot.fleet.at(slot)
            assert not result.departed >> slot & 1
            assert subset is None or endpoint.address in subset
            number = int(endpoint.pod_name[1:])
            assert self.upserted[number] > deleted[number]
        held.append(result)
        self.picks += 1
        if rng.random() < 0.3:
            rng.choice(held).started()
        if len(held) > 20 or rng.random() < 0.5:
            held.pop(rng.randrange(len(held))).release()

    def until_the_end(self, act: Callable[[], None]) -> None:
        """Repeat *act*; an error of one thread ends all."""
        try:
            while not self.ended.is_set():
                act()
        except BaseException as error:  # noqa: BLE001  # told by the main thread
            self.errors.append(error)
            self.ended.set()

    def pick_until_the_end(self, rng: Random) -> None:
        """Pick, then release what is still held."""
        held: list[PickResult] = []
        self.until_the_end(lambda: self.pick(rng, held))
        for result in held:
            result.release()


def check_levels(levels: Levels[int], shown: int) -> None:
    """Every shown slot is in exactly one set, that of its count; no set is empty, and the values are sorted."""
    assert levels.values == sorted(levels.sets)
    union = 0
    for count, members in levels.sets.items():
        assert members
        assert not union & members
        union |= members
        assert {levels.counts[slot] for slot in to_slots(members)} == {count}
    assert union == shown


def check_overlay(picker: EndpointPicker) -> None:
    """The reservations agree with each other and with what the ranking assumed."""
    scheduler = picker._scheduler
    with scheduler._lock:
        reservations, ranking = scheduler._fleet.reservations, scheduler._fleet._ranking
        check_levels(reservations.drift, reservations.shown)
        check_levels(reservations.amount_levels(reservations.measures[0]), reservations.shown)
        check_levels(reservations.in_flight_levels(), reservations.shown)
        assert reservations.total_in_flight == sum(reservations.in_flight)
        assert all(0 <= p <= f for p, f in zip(reservations.pending, reservations.in_flight, strict=True))
        assert ranking is not None
        # What a ranking assumed, and what was lost since, is what is pending and in flight.
        terms = ranking.terms
        for slot in to_slots(reservations.shown):
            index = list(scheduler._fleet.snapshot.fleet.slots).index(slot)
            burden = burden_of(terms.charges, reservations.amounts, slot)
            cost = terms.costs[index] + reservations.pending[slot] * terms.step + burden
            assert cost == ranking.costs[slot] + reservations.loss_at(slot, terms.step)


@pytest.mark.usefixtures("_frequent_switches")
def test_writers_and_pickers_do_not_disturb_each_other() -> None:
    """No error, no pick of what was gone before it, only best picks, and nothing in flight in the end."""
    storm = Storm()
    change, observe = Random(1), Random(2)
    threads = [
        Thread(target=storm.until_the_end, args=[lambda: storm.come_and_go(change)]),
        Thread(target=storm.until_the_end, args=[lambda: storm.observe(observe)]),
        *(Thread(target=storm.pick_until_the_end, args=[Random(seed)]) for seed in range(10, 14)),
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + SECONDS
    latest = end + PATIENCE  # however busy the machine is, there is something to judge by
    while not storm.ended.is_set() and (
        time.monotonic() < end or (time.monotonic() < latest and (storm.picks <= 200 or storm.judge.judged <= 10))
    ):
        time.sleep(0.05)
        try:
            check_overlay(storm.picker)
        except BaseException as error:  # noqa: BLE001  # told below, when the threads have ended
            storm.errors.append(error)
            storm.ended.set()
    storm.ended.set()
    for thread in threads:
        thread.join(PATIENCE)

    if storm.errors:
        raise storm.errors[0]
    assert not any(thread.is_alive() for thread in threads)
    assert storm.judge.wrong == []
    assert storm.judge.judged > 10
    assert storm.picks > 100
    assert storm.picker.statistics().in_flight == 0
    storm.registry.publish()
    storm.picker.pick(InferenceRequest()).release()
    check_overlay(storm.picker)
    assert not any(storm.picker._scheduler._fleet.reservations.pending)
    assert not any(storm.picker._scheduler._fleet.reservations.in_flight)
    assert not any(storm.picker._scheduler._fleet.reservations.amounts[0])


def test_an_order_of_changes_is_the_order_of_the_news() -> None:
    """Listeners hear changes one at a time and in the order in which they were made, whichever thread makes them."""
    registry = EndpointRegistry(make_pool())
    known: set[str] = set()
    wrong: list[object] = []

    def listen(change: object) -> None:
        added = {endpoint.id for endpoint in change.added}  # type: ignore[attr-defined]  # a MembershipChange
        removed = {endpoint.id for endpoint in change.removed}  # type: ignore[attr-defined]  # always a MembershipChange
        if removed - known or added & (known - removed):
            wrong.append(change)
        known.difference_update(removed)
        known.update(added)

    registry.subscribe(listen)

    def flicker() -> None:
        for _ in range(300):
            registry.upsert_pod(make_pod("p"))
            registry.delete_pod("default", "p")

    threads = [Thread(target=flicker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert wrong == []
    assert known == set()
