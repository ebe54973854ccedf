from __future__ import annotations

import gc
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from random import Random
from statistics import fmean
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError, StrategyError
from inferencepool.lab.simulation import (
    PROFILES,
    WORKLOADS,
    Arrival,
    EndpointLeaves,
    EndpointsJoin,
    EngineOptions,
    LoraMix,
    Prompt,
    SharedPrompts,
    SimulationOptions,
    SimulationResult,
    SpeedChanges,
    compare,
    parse_profile,
    simulate,
)
from inferencepool.model import Candidates, Endpoint, EndpointSet, InferenceRequest, Snapshot
from inferencepool.plugins import default_profile
from inferencepool.scheduling import PickResult, SchedulingProfile

ARRIVALS = tuple(SharedPrompts(groups=4).arrivals(rate=60, duration=20, seed=1))


def picks(result: SimulationResult) -> list[int]:
    """List how many requests each endpoint got."""
    return [endpoint.picks for endpoint in result.endpoints]


class Prefer:
    """A user's own scorer: one endpoint is the best there is."""

    def __init__(self, pod_name: str) -> None:
        self.pod_name = pod_name

    def score(self, _request: InferenceRequest, candidates: Candidates) -> Sequence[float]:
        """Score that endpoint 1, and the others 0."""
        return [float(candidate.endpoint.pod_name == self.pod_name) for candidate in candidates]


@attrs.define
class Witness:
    """A scorer without any opinion, which remembers what it saw and heard."""

    requests: list[InferenceRequest] = attrs.field(factory=list)
    snapshots: list[Snapshot] = attrs.field(factory=list)
    open: set[int] = attrs.field(factory=set)
    begun: int = 0
    closed: int = 0

    def affinities(self, request: InferenceRequest, snapshot: Snapshot) -> Sequence[tuple[float, EndpointSet]]:
        """Remember both."""
        self.requests.append(request)
        self.snapshots.append(snapshot)
        return ()

    def picked(self, result: PickResult) -> None:
        """Remember a pick."""
        self.open.add(id(result))

    def started(self, result: PickResult) -> None:
        """Count a response that begins, and be sure that its pick is not released."""
        assert id(result) in self.open
        self.begun += 1

    def released(self, result: PickResult) -> None:
        """Count a release, and be sure that it is one of a pick and the only one."""
        self.open.remove(id(result))
        self.closed += 1


def witnessed(witness: Witness, *scorers: Any) -> Callable[[], SchedulingProfile]:
    """Make what makes a profile with *witness* in it."""
    return lambda: SchedulingProfile(scorers=[witness, *scorers])


class TestThePicker:
    def test_a_scorer_of_the_users_own_decides(self) -> None:
        """With a scorer that prefers one endpoint all requests go there, so it is the picker that picks."""
        result = simulate(ARRIVALS, lambda: SchedulingProfile(scorers=[Prefer("server-5")]))

        assert [0, 0, 0, 0, 0, len(ARRIVALS), 0, 0] == picks(result)

    def test_what_a_strategy_raises_comes_out(self) -> None:
        """A strategy that breaks its contract ends the simulation with the picker's error."""

        class Wrong:
            def score(self, _request: InferenceRequest, _candidates: Candidates) -> Sequence[float]:
                return []

        with pytest.raises(StrategyError):
            simulate(ARRIVALS, lambda: SchedulingProfile(scorers=[Wrong()]))

    def test_strategies_see_the_requests_as_a_gateway_would_show_them(self) -> None:
        """Model or adapter, the whole text of the prompt and the session are in the request."""
        prompt = Prompt("question", 3, Prompt("system", 5))
        arrivals = [
            Arrival(0.0, prompt, 1, model="llama", session="s"),
            Arrival(1.0, prompt, 1, model="llama", adapter="sql"),
        ]
        witness = Witness()
        simulate(arrivals, witnessed(witness))

        assert [("llama", {"x-session-id": "s"}), ("sql", {})] == [
            (each.model, each.headers) for each in witness.requests
        ]
        assert [b"system|system|system" + b"question|que"] * 2 == [each.prompt for each in witness.requests]

    def test_every_pick_is_released(self) -> None:
        """All picks are released in the end, those of refused requests, too."""
        arrivals = [*ARRIVALS, Arrival(30.0, Prompt("long", 300_000), 1)]
        witness = Witness()
        result = simulate(arrivals, witnessed(witness))

        assert {"refused-by-engine": 1} == result.rejected
        assert (set(), len(ARRIVALS), len(arrivals)) == (witness.open, witness.begun, witness.closed)

    def test_strategies_that_tell_the_time_are_given_the_simulated_clock(self) -> None:
        """A strategy with a clock tells the time at which the request came, whatever time it is."""
        seen: list[float] = []

        @attrs.define
        class Timed:
            clock: Callable[[], float] = time.monotonic

            def affinities(self, _request: object, _snapshot: object) -> Sequence[tuple[float, EndpointSet]]:
                seen.append(self.clock())
                return ()

        simulate(ARRIVALS, lambda: SchedulingProfile(scorers=[Timed()]))

        assert [arrival.at for arrival in ARRIVALS] == seen

    def test_sessions_send_what_responses_told_them(self) -> None:
        """A client sends the session token of a response with the next turn, and so comes to the same endpoint."""
        arrivals = tuple(WORKLOADS["chats"]().arrivals(rate=10, duration=40, seed=1))
        witness = Witness()
        result = simulate(arrivals, witnessed(witness, parse_profile("10*session-affinity-scorer")().scorers[0]))
        tokens: dict[str, set[str | None]] = {}
        for request in witness.requests:
            tokens.setdefault(request.headers["x-session-id"], set()).add(request.headers.get("x-session-token"))

        assert max(len(found) for found in tokens.values()) <= 2
        assert sum(len(found) == 2 for found in tokens.values()) > 50
        assert result.completed == len(arrivals)


class TestLaws:
    @pytest.mark.parametrize("workload", list(WORKLOADS))
    @pytest.mark.parametrize("profile", ["default", "least-request", "random"])
    def test_every_request_ends_once(self, workload: str, profile: str) -> None:
        """What came was answered or rejected, every answer is one pick, and no first token comes after its end."""
        arrivals = tuple(WORKLOADS[workload]().arrivals(rate=30, duration=20, seed=2))
        result = simulate(arrivals, PROFILES[profile], SimulationOptions(endpoints=3))

        assert len(arrivals) == result.requests == result.completed + sum(result.rejected.values())
        assert result.completed == sum(picks(result))
        assert result.time_to_first_token.mean < result.end_to_end.mean
        assert 0 <= result.hit_blocks <= result.prompt_blocks
        assert result.seconds > arrivals[-1].at

    @given(st.integers(0, 1000), st.integers(1, 5), st.sampled_from(sorted(WORKLOADS)))
    def test_the_same_seed_gives_the_same_result(self, seed: int, endpoints: int, workload: str) -> None:
        """Everything that a result says repeats with the seed."""
        options = SimulationOptions(endpoints=endpoints, changes=[EndpointsJoin(1.0), EndpointLeaves(2.0, 0)])
        one, again = (
            simulate(
                WORKLOADS[workload]().arrivals(rate=10, duration=4, seed=seed), default_profile, options, seed=seed
            )
            for _ in range(2)
        )

        assert one == again
        assert one.to_dict() == again.to_dict()

    def test_another_seed_gives_another_result(self) -> None:
        """The seed settles ties: with another one, random picks differ."""
        one, other = (simulate(ARRIVALS, PROFILES["random"], seed=seed) for seed in (1, 2))

        assert picks(one) != picks(other)

    def test_waiting_times_are_those_of_queueing_theory(self) -> None:
        """One server with a batch of one, random arrivals and equal prompts wait as an M/D/1 queue does."""
        service, load = 0.5, 0.6
        rng, at = Random(1), 0.0
        arrivals = []
        for index in range(12_000):
            at += rng.expovariate(load / service)
            arrivals.append(Arrival(at, Prompt(f"p{index}", 25), 1))
        engine = EngineOptions(
            prefill_tokens_per_second=100, decode_tokens_per_second=4, max_running_requests=1, max_step_tokens=32
        )
        result = simulate(arrivals, default_profile, SimulationOptions(endpoints=1, engine=engine))

        expected = service + load * service / (2 * (1 - load))
        assert 0.95 < result.time_to_first_token.mean / expected < 1.05
        assert 0.97 < result.endpoints[0].busy_share / load < 1.03

    def test_the_load_that_is_seen_is_rate_times_time(self) -> None:
        """The load that scrapes show is, on average, the one that Little's law gives: arrival rate times time."""
        arrivals = tuple(SharedPrompts().arrivals(rate=60, duration=300, seed=1))
        witness = Witness()
        result = simulate(arrivals, witnessed(witness))
        # What is seen by requests that come at random is what there is on average, but for the time it takes to fill.
        seen = fmean(
            sum(snapshot.running_requests) + sum(snapshot.waiting_queue_size)
            for arrival, snapshot in zip(arrivals, witness.snapshots, strict=True)
            if arrival.at > 30
        )

        assert 0.95 < seen / (60 * result.end_to_end.mean) < 1.05


class TestStaleness:
    def test_metrics_are_as_old_as_scraping_and_publishing_make_them(self) -> None:
        """No pick sees metrics younger than the delay, or older than interval, delay and publishing together."""
        options = SimulationOptions(endpoints=4, scrape_interval=1.0, scrape_delay=0.25, publish_interval=0.5)
        witness = Witness()
        simulate(ARRIVALS, witnessed(witness), options)
        ages = [
            arrival.at - observed_at
            for arrival, snapshot in zip(ARRIVALS, witness.snapshots, strict=True)
            for observed_at in snapshot.observed_at
            if arrival.at > 2
        ]

        assert 0.25 <= min(ages) < 0.3
        assert 1.6 < max(ages) <= 1.0 + 0.25 + 0.5 + 0.1
        assert 4 == len(set(witness.snapshots[-1].observed_at))

    def test_without_reservations_a_burst_goes_where_the_last_scrape_points(self) -> None:
        """Picks between two scrapes all follow the same metrics, unless each of them counts as load."""
        burst = [Arrival(1.2 + index / 4000, Prompt(f"p{index}", 100), 50) for index in range(120)]
        arrivals = [Arrival(0.0, Prompt("first", 40_000), 1), *burst]

        def loads(*, reserve: bool) -> list[int]:
            options = SimulationOptions(endpoints=2, scrape_interval=1.0, reserve=reserve)
            return picks(simulate(arrivals, parse_profile("kv-cache-utilization-scorer + queue-scorer"), options))

        assert min(loads(reserve=False)) < 5
        assert min(loads(reserve=True)) > 20


class TestChanges:
    def test_endpoints_that_join_get_requests_from_then_on(self) -> None:
        """An endpoint that joins halfway gets about half as many requests as the others."""
        options = SimulationOptions(endpoints=3, changes=[EndpointsJoin(10.0, count=2)])
        result = simulate(ARRIVALS, PROFILES["round-robin"], options)

        assert 5 == len(result.endpoints)
        assert all(0.35 < new / old < 0.65 for new in picks(result)[3:] for old in picks(result)[:3])

    def test_an_endpoint_that_leaves_gets_no_more_and_finishes_what_it_has(self) -> None:
        """From the moment that it leaves on no request goes to it, and those that it has are answered."""
        options = SimulationOptions(endpoints=3, changes=[EndpointLeaves(10.0, 1)])
        before = tuple(arrival for arrival in ARRIVALS if arrival.at < 10)
        result = simulate(ARRIVALS, PROFILES["round-robin"], options)

        assert picks(simulate(before, PROFILES["round-robin"], options))[1] == picks(result)[1]
        assert len(ARRIVALS) == result.completed

    def test_without_endpoints_requests_are_rejected(self) -> None:
        """When all endpoints have left, requests are rejected for that reason."""
        options = SimulationOptions(endpoints=1, changes=[EndpointLeaves(10.0, 0)])
        after = sum(arrival.at > 10 for arrival in ARRIVALS)
        result = simulate(ARRIVALS, default_profile, options)

        assert {"rejected-no-endpoints": after} == result.rejected
        assert len(ARRIVALS) - after == result.completed

    def test_what_filters_leave_out_is_rejected(self) -> None:
        """Requests for which the filters keep no endpoint are rejected for that reason."""

        class Nobody:
            def keep(self, _endpoint: Endpoint) -> bool:
                return False

        result = simulate(ARRIVALS, lambda: SchedulingProfile(filters=[Nobody()]))

        assert {"rejected-saturated": len(ARRIVALS)} == result.rejected
        assert (0, 0.0, 0.0) == (result.completed, result.hit_rate, result.end_to_end.percentile(99))

    def test_a_slow_endpoint_is_sent_less(self) -> None:
        """A picker that looks at the load sends less to an endpoint that became slow, and one in turn does not."""
        arrivals = tuple(SharedPrompts().arrivals(rate=60, duration=60, seed=1))
        options = SimulationOptions(endpoints=4, changes=[SpeedChanges(5.0, 2, 0.25)])
        loaded, in_turn = compare(
            arrivals, {name: PROFILES[name] for name in ("least-request", "round-robin")}, options
        )

        assert picks(loaded)[2] < 0.6 * min(picks(loaded)[:2])
        assert max(picks(in_turn)) - min(picks(in_turn)) <= 1

    def test_changes_after_the_last_request_count(self) -> None:
        """An endpoint that becomes slow while it finishes its last requests takes longer for them."""
        arrivals = [Arrival(0.0, Prompt("p", 100), 100)]
        slow = SimulationOptions(endpoints=1, changes=[SpeedChanges(1.0, 0, 0.5)])

        assert simulate(arrivals, default_profile).seconds * 1.4 < simulate(arrivals, default_profile, slow).seconds

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"endpoints": 0}, "endpoints: 0 is not a whole number from 1 to 100000"),
            ({"scrape_interval": 0}, "scrape_interval: 0 is not a finite number above 0"),
            ({"scrape_delay": 0.05}, "scrape_delay: 0.05 is not less than scrape_interval, 0.05"),
            ({"publish_interval": -1}, "publish_interval: -1 is not a finite number of 0 or more"),
            ({"reserve": None}, "reserve: None is neither true nor false"),
            ({"changes": [EndpointLeaves(1, 8)]}, "changes: 8 is not the number of an endpoint at 1 s, 0 to 7"),
            (
                {"changes": [SpeedChanges(2, 9, 1), EndpointsJoin(1), EndpointsJoin(3)]},
                "changes: 9 is not the number of an endpoint at 2 s, 0 to 8",
            ),
            (
                {"changes": [EndpointLeaves(1, 0), EndpointLeaves(2, 0)]},
                "changes: 0 is not an endpoint that has not left before",
            ),
        ],
    )
    def test_wrong_options_are_named(self, options: dict[str, Any], message: str) -> None:
        """An option that is not allowed is refused with its name, its value and what is allowed."""
        with pytest.raises(ConfigurationError) as caught:
            SimulationOptions(**options)

        assert f"simulation: {message}" == str(caught.value)


class TestCompare:
    def test_every_profile_gets_the_same_requests(self) -> None:
        """Results come in the order of the profiles, under their names, each as if simulated alone."""
        profiles = {"two": PROFILES["random"], "one": default_profile}
        results = compare(iter(ARRIVALS), profiles, seed=3)

        assert ["two", "one"] == [result.profile for result in results]
        assert [simulate(ARRIVALS, make, name=name, seed=3) for name, make in profiles.items()] == list(results)

    def test_progress_is_told(self) -> None:
        """Progress is told for each profile, from 0 on, in thousands of requests."""
        told: list[tuple[str, int]] = []
        compare(ARRIVALS, {"a": default_profile, "b": default_profile}, progress=lambda *args: told.append(args))

        assert [("a", 0), ("a", 1000), ("b", 0), ("b", 1000)] == told

    def test_requests_out_of_order_are_refused(self) -> None:
        """A request that is earlier than the one before it is refused."""
        arrivals = [Arrival(2.0, Prompt("p", 1), 1), Arrival(1.0, Prompt("q", 1), 1)]

        with pytest.raises(ConfigurationError, match=r"one at 1\.0 s comes after one at 2\.0 s, allowed is no earlier"):
            simulate(arrivals, default_profile)

    @pytest.mark.parametrize(
        ("arrival", "message"),
        [
            ({"at": -1.0}, "arrival: at: -1.0 is not a finite number of 0 or more"),
            ({"at": float("nan")}, "arrival: at: nan is not a finite number of 0 or more"),
            ({"output_tokens": 0}, "arrival: output_tokens: 0 is not a whole number of 1 or more"),
            (
                {"answer": Prompt("answer", 3, Prompt("p", 1))},
                "arrival: answer: <Prompt p/answer of 4 tokens> is not the prompt with 5 tokens added to it",
            ),
        ],
    )
    def test_requests_that_cannot_be_are_refused(self, arrival: dict[str, Any], message: str) -> None:
        """A request with an impossible time, length or answer is refused when it is made."""
        fields: dict[str, Any] = {"at": 0.0, "prompt": Prompt("p", 1), "output_tokens": 5}
        with pytest.raises(ConfigurationError) as caught:
            Arrival(**(fields | arrival))

        assert message == str(caught.value)

    @pytest.mark.parametrize("tokens", [0, -1, 2.0, None])
    def test_prompts_without_tokens_are_refused(self, tokens: Any) -> None:
        """A prompt adds one token or more."""
        with pytest.raises(ConfigurationError, match=r"^prompt p: tokens: .* is not a whole number of 1 or more$"):
            Prompt("p", tokens)

    def test_nothing_is_left_in_memory(self) -> None:
        """What a simulation held is gone when it ends, without any help of the collector."""
        kept: list[weakref.ref[SchedulingProfile]] = []

        def make() -> SchedulingProfile:
            profile = default_profile()
            kept.append(weakref.ref(profile))
            return profile

        gc.disable()
        try:
            simulate(ARRIVALS, make)
            assert kept[0]() is None
        finally:
            gc.enable()

    def test_the_profile_names_the_result(self) -> None:
        """Without a name the result has that of the profile."""
        assert "default" == simulate([], default_profile).profile


def test_adapters_go_where_they_are_loaded() -> None:
    """Affinity to adapters loads fewer of them, so answers come sooner than with random picks."""
    arrivals = tuple(LoraMix(adapters=8).arrivals(rate=8, duration=60, seed=1))
    options = SimulationOptions(endpoints=4, engine=EngineOptions(max_adapters=2, adapter_load_seconds=1.0))
    near, random = compare(
        arrivals, {"near": parse_profile("lora-affinity-scorer + queue-scorer"), "random": PROFILES["random"]}, options
    )

    assert near.time_to_first_token.mean < random.time_to_first_token.mean / 2


def test_prompts_of_one_kind_hit_more_where_they_are_kept_together() -> None:
    """With caches too small for all prompts, sessions that stay with one endpoint find more of theirs."""
    arrivals = tuple(WORKLOADS["chats"]().arrivals(rate=12, duration=60, seed=1))
    options = SimulationOptions(endpoints=4, engine=EngineOptions(kv_blocks=8192))
    together, random = compare(arrivals, {name: PROFILES[name] for name in ("session-hash", "random")}, options)

    assert together.hit_rate > 1.5 * random.hit_rate
    assert 4 == len(Counter(picks(together)))


class TestFollowers:
    """Requests that follow others."""

    def test_a_client_asks_again_when_it_has_its_answer(self) -> None:
        """One client alone never has two requests under way, and the pauses lie between them."""
        ends = list[float]()

        def ask(number: int, at: float) -> Arrival:
            return Arrival(at, Prompt(f"prompt-{number}", 100), 10, then=partial(then, number + 1))

        def then(number: int, end: float) -> Arrival | None:
            ends.append(end)
            return ask(number, end + 2.0) if number < 5 else None

        result = simulate([ask(0, 1.0)], default_profile, SimulationOptions(endpoints=1))

        assert (5, 5) == (result.completed, len(ends))
        assert [result.end_to_end.mean + 2.0] * 4 == pytest.approx([b - a for a, b in pairwise(ends)])

    def test_those_that_follow_come_in_their_turn(self) -> None:
        """Before the next request that follows none, where their time is earlier."""
        order = list[str]()

        class Listening:
            def score(self, request: InferenceRequest, candidates: Candidates) -> list[float]:
                order.append(bytes(request.prompt[:4]).decode())
                return [0.0] * len(candidates)

        second = Arrival(5.0, Prompt("next", 10), 1)
        first = [Arrival(0.0, Prompt("left", 10), 1, then=lambda _: second), Arrival(9.0, Prompt("last", 10), 1)]
        simulate(first, lambda: SchedulingProfile(scorers=[Listening()]))

        assert ["left", "next", "last"] == order

    def test_what_follows_may_not_come_earlier(self) -> None:
        """A request that follows another one before that one has ended is refused."""
        early = Arrival(0.0, Prompt("b", 10), 1)
        with pytest.raises(ConfigurationError, match=r"one at 0\.0 s comes after one at"):
            simulate([Arrival(1.0, Prompt("a", 10), 1, then=lambda _: early)], default_profile)


def test_loads_of_adapters_are_counted() -> None:
    """With room for one, an adapter that ran before another one is loaded again."""
    arrivals = [
        Arrival(float(at), Prompt(f"{at}", 10), 1, adapter=adapter) for at, adapter in enumerate(["a", "a", "b", "a"])
    ]
    result = simulate(arrivals, default_profile, SimulationOptions(endpoints=1, engine=EngineOptions(max_adapters=1)))

    assert (3, [3]) == (result.adapter_loads, [endpoint.adapter_loads for endpoint in result.endpoints])
