"""What every built-in strategy promises: its contract, and for pickers the same answer from a ranking and a scan."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import attrs
import pytest

from inferencepool import plugins
from inferencepool.errors import ConfigurationError
from inferencepool.model import Candidates, EndpointMetrics, InferenceRequest, Snapshot
from inferencepool.plugins import (
    CATALOG,
    ConsistentHashPicker,
    KvCacheUtilizationScorer,
    LoraAffinityScorer,
    QueueScorer,
    build_strategy,
)
from inferencepool.scheduling import PickResult, Scheduler, SchedulingProfile, Standing, StandingPicker, WeightedScorer
from inferencepool.testing import check_filter, check_picker, check_scorer
from tests.strategies.fleets import ADAPTERS, endpoint, metrics, snapshot_of

# What must be given, and parameters that change what a strategy does.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "active-request-scorer": [{}, {"idleThreshold": 2, "maxBusyScore": 0.5}],
    "by-label": [{"label": "zone", "validValues": ["a"]}, {"label": "zone", "allowsNoLabel": True}],
    "consistent-hash-picker": [{}, {"header": "x-request-id", "loadFactor": 1, "virtualNodes": 3}],
    "context-length-aware": [{}, {"label": "zone", "enableFiltering": True}],
    "label-selector-filter": [{}, {"matchLabels": {"zone": "a"}}],
    "load-aware-scorer": [{}, {"threshold": 1}],
    "max-score-picker": [{}, {"tieBreak": "rotation"}],
    "prefix-cache-affinity-filter": [{}, {"affinityThreshold": 0}, {"explorationProbability": 1}],
    "prefix-cache-scorer": [{}, {"matchLengthWeight": 0.5, "loadFactor": 1, "loadSlack": 1}],
    "session-affinity-filter": [{}, {"strategy": "session_id", "loadFactor": 1.5}],
    "session-affinity-scorer": [{}, {"strategy": "session_id", "loadFactor": 1.5}],
    "token-load-scorer": [{}, {"queueThresholdTokens": 10}],
}
BUILT = [(name, parameters) for name in CATALOG for parameters in VARIANTS.get(name, [{}])]
PICKERS = [(name, parameters) for name, parameters in BUILT if name.endswith("-picker")]

# The only one that draws differently from a ranking than from a scan; see `test_weighted_random`.
BY_REJECTION = "weighted-random-picker"


@pytest.mark.parametrize(("type_name", "parameters"), BUILT)
def test_keeps_its_contract(type_name: str, parameters: dict[str, Any]) -> None:
    """The checks that users run on their own strategies find nothing to complain about."""
    strategy: Any = build_strategy(type_name, parameters).strategy
    if type_name.endswith(("-scorer", "-aware")):
        check_scorer(strategy)
    if type_name.endswith("-picker"):
        check_picker(strategy)
    if type_name.endswith(("-filter", "-aware", "by-label", "by-label-selector")):
        check_filter(strategy)


def test_the_catalogue_is_complete() -> None:
    """Every class of the package that has a strategy's method can be built by name."""
    methods = (
        *("keep", "narrow", "filter", "score_endpoints", "score_load", "affinities", "affinities_among", "score"),
        *("choose", "pick", "amounts", "produce"),
    )
    classes = {item for item in map(plugins.__dict__.get, plugins.__all__) if isinstance(item, type)}
    found = {item for item in classes if any(hasattr(item, method) for method in methods)}
    assert found == {type(build_strategy(name, parameters).strategy) for name, parameters in BUILT}


class Nothing:
    """Gives everyone 0, and makes every pick a scan: it may look at everything."""

    def score(self, _request: InferenceRequest, candidates: Candidates) -> Sequence[float]:
        """Give 0."""
        return [0.0] * len(candidates)


@attrs.define
class Watched:
    """Notes from which kinds of standing a picker chose."""

    picker: StandingPicker
    standings: set[str] = attrs.field(factory=set)

    def choose(self, request: InferenceRequest, standing: Standing, count: int) -> Sequence[int]:
        """Note, then choose."""
        self.standings.add(type(standing).__name__)
        return self.picker.choose(request, standing, count)


def picks(picker: Any, *, scan: bool, seed: int) -> tuple[list[list[int]], set[str]]:
    """Pick and release at random while metrics move; which picks are released depends on the seed alone."""
    rng, size = Random(seed), 12
    watched = Watched(picker)
    scorers: list[Any] = [
        WeightedScorer(QueueScorer(), 2),
        KvCacheUtilizationScorer(),
        LoraAffinityScorer(),
    ]
    profile = SchedulingProfile(
        scorers=[*scorers, Nothing()] if scan else scorers, picker=watched, max_num_of_endpoints=3
    )
    scheduler = Scheduler(profile, rng=Random(seed))
    snapshot, held, found = random_snapshot(rng, size, 1, None), list[PickResult](), list[list[int]]()
    for number in range(120):
        if number % 40 == 39:
            snapshot = random_snapshot(rng, size, snapshot.generation + 1, snapshot)
        for _ in range(rng.randrange(3)):
            if held:
                scheduler.release(held.pop(rng.randrange(len(held))))
        request = InferenceRequest(
            model=rng.choice(ADAPTERS),
            headers=rng.choice([{}, {"x-session-id": rng.choice("abc"), "x-request-id": str(number)}]),
        )
        part = [endpoint(slot).destination for slot in rng.sample(range(size), 4)]
        held.append(scheduler.schedule(request, snapshot, subset=rng.choice([None, None, part])))
        found.append([held[-1].slot, *held[-1].fallback_slots])
    return found, watched.standings


def random_snapshot(rng: Random, size: int, generation: int, before: Snapshot | None) -> Snapshot:
    """Random load, with ties, on the fleet of the snapshot *before*."""
    loads = [metrics(rng, 5, coarse=True) for _ in range(size)]
    fleet = None if before is None else before.fleet
    return snapshot_of([endpoint(slot) for slot in range(size)], loads, generation=generation, fleet=fleet)


@pytest.mark.parametrize("seed", [1, 2, 3])
class TestStandings:
    """A picker need not know whether its candidates were ranked or scanned."""

    @pytest.mark.parametrize(("type_name", "parameters"), [item for item in PICKERS if item[0] != BY_REJECTION])
    def test_ranked_and_scanned_give_the_same_picks(
        self, type_name: str, parameters: dict[str, Any], seed: int
    ) -> None:
        """Equal seeds give equal picks and fallbacks, whatever is in flight and however scores were found."""
        ranked, from_ranked = picks(build_strategy(type_name, parameters).strategy, scan=False, seed=seed)
        scanned, from_scanned = picks(build_strategy(type_name, parameters).strategy, scan=True, seed=seed)
        assert "RankedStanding" in from_ranked
        assert from_scanned == {"ScannedStanding"}
        assert ranked == scanned

    @pytest.mark.parametrize(("type_name", "parameters"), PICKERS)
    @pytest.mark.parametrize("scan", [False, True])
    def test_a_seed_repeats_the_picks(
        self, type_name: str, parameters: dict[str, Any], seed: int, *, scan: bool
    ) -> None:
        """The scheduler's source of randomness is the only one."""
        runs = [picks(build_strategy(type_name, parameters).strategy, scan=scan, seed=seed)[0] for _ in range(2)]
        assert runs[0] == runs[1]


class TestWithoutKey:
    """The picker that consistent hashing leaves requests without a key to."""

    def test_it_picks_for_requests_without_a_key_only(self) -> None:
        """Round robin takes turns among requests without a key; one with a key does not move the rotation."""
        snapshot = snapshot_of([endpoint(slot) for slot in range(3)], [EndpointMetrics()] * 3)
        picker = ConsistentHashPicker(without_key=plugins.RoundRobinPicker())
        scheduler = Scheduler(SchedulingProfile(picker=picker), rng=Random(1), reserve=False)
        keyed = InferenceRequest(headers={"x-session-id": "a"})
        home = scheduler.schedule(keyed, snapshot).slot
        turns = []
        for _ in range(6):
            turns.append(scheduler.schedule(InferenceRequest(), snapshot).slot)
            assert scheduler.schedule(keyed, snapshot).slot == home
        assert turns == [0, 1, 2, 0, 1, 2]

    @pytest.mark.parametrize("value", [None, "random-picker", QueueScorer(), plugins.RandomPicker])
    def test_refuses_what_is_no_picker(self, value: Any) -> None:
        """The error names the picker, the parameter and the value."""
        with pytest.raises(
            ConfigurationError, match=r"consistent-hash-picker: without_key: .* is no picker with a method"
        ):
            ConsistentHashPicker(without_key=value)
