"""Session affinity: where sessions are at home, and what the filter and the scorer make of it."""

from __future__ import annotations

from base64 import b64encode
from random import Random
from threading import Thread
from typing import Any

import attrs
import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.model import Fleet, InferenceRequest, Snapshot, to_endpoint_set
from inferencepool.plugins import (
    EncodedEndpoint,
    LoadBound,
    QueueScorer,
    SessionAffinityFilter,
    SessionAffinityScorer,
    SessionBindings,
    build_strategy,
)
from inferencepool.scheduling import PickResult, Scheduler, SchedulingProfile, WeightedScorer
from inferencepool.testing import ManualClock, make_snapshot
from tests.patience import PATIENCE
from tests.plugins.test_in_flight import scores_of


def of_session(name: str, **headers: str) -> InferenceRequest:
    """A request of the session *name*."""
    return InferenceRequest(headers={"x-session-id": name, **headers})


def reborn(snapshot: Snapshot, slot: int, generation: int, *, again: bool = False) -> Snapshot:
    """The same fleet, but with another endpoint in *slot*, or with one of that name again."""
    births = tuple(birth + 100 * (at == slot) for at, birth in enumerate(snapshot.fleet.births))
    endpoints = [*snapshot.fleet.endpoints]
    if not again:
        endpoints[slot] = attrs.evolve(snapshot.fleet.at(slot), pod_name=f"other-{generation}")
    fleet = Fleet(tuple(endpoints), births, snapshot.fleet.members)
    return attrs.evolve(snapshot, fleet=fleet, generation=generation)


class TestEncodedEndpoint:
    """A token that the response carries."""

    def test_the_token_brings_back(self) -> None:
        """A request with the token of a response goes where that came from."""
        scheduler = Scheduler(SchedulingProfile(scorers=[SessionAffinityScorer()]), rng=Random(1))
        snapshot = make_snapshot(30)
        first = scheduler.schedule(InferenceRequest(), snapshot)
        assert {"x-session-token": b64encode(first.endpoint.id.encode()).decode()} == first.response_headers
        again = scheduler.schedule(InferenceRequest(headers=first.response_headers), snapshot)
        assert first.slot == again.slot
        assert [float(slot == first.slot) for slot in range(30)] == scores_of(again, "session-affinity-scorer")

    @pytest.mark.parametrize(
        "token",
        ["", "?", "ZZZ", "====", "x" * 100_000, "\udc80", "/w==", b64encode(b"default/gone-rank-0").decode(), "é"],
    )
    def test_bad_tokens_are_no_preference(self, token: str) -> None:
        """Whatever the client sends, nobody scores and all are kept."""
        profile = SchedulingProfile(filters=[SessionAffinityFilter()], scorers=[SessionAffinityScorer()])
        request = InferenceRequest(headers={"x-session-token": token})
        result = Scheduler(profile).schedule(request, make_snapshot(3))
        assert [0, 0, 0] == scores_of(result, "session-affinity-scorer")

    def test_another_header(self) -> None:
        """Its name is configured, in any case."""
        parameters = {"encodedEndpointHeaderConfig": {"header": "X-Home"}}
        strategy: Any = build_strategy("session-affinity-scorer", parameters).strategy
        result = Scheduler(SchedulingProfile(scorers=[strategy])).schedule(InferenceRequest(), make_snapshot(1))
        assert ["x-home"] == list(result.response_headers)


class TestSessionBindings:
    """The endpoint of each session, remembered here."""

    def test_a_session_stays(self) -> None:
        """Its first pick binds it, whatever the load becomes; others go elsewhere."""
        home = SessionBindings()
        scorers = [WeightedScorer(SessionAffinityScorer(home), 100), WeightedScorer(QueueScorer())]
        scheduler, snapshot = Scheduler(SchedulingProfile(scorers=scorers), rng=Random(2)), make_snapshot(4)
        slots = {name: scheduler.schedule(of_session(name), snapshot).slot for name in "abcd"}
        assert {0, 1, 2, 3} == set(slots.values())
        for _ in range(5):
            assert slots == {name: scheduler.schedule(of_session(name), snapshot).slot for name in "abcd"}
        assert {} == scheduler.schedule(of_session("a"), snapshot).response_headers

    def test_a_pick_elsewhere_moves_nothing(self) -> None:
        """A session whose endpoint is there, but was not picked, stays at home there."""
        home = SessionBindings()
        scheduler, snapshot = Scheduler(SchedulingProfile(filters=[SessionAffinityFilter(home)])), make_snapshot(3)
        bound = scheduler.schedule(of_session("a"), snapshot)
        elsewhere = [
            endpoint.destination for endpoint in map(snapshot.fleet.at, range(3)) if endpoint != bound.endpoint
        ]
        assert bound.slot != scheduler.schedule(of_session("a"), snapshot, subset=elsewhere).slot
        assert bound.slot == scheduler.schedule(of_session("a"), snapshot).slot

    @pytest.mark.parametrize("departs", [False, True])
    def test_a_session_moves_when_its_endpoint_is_gone(self, departs: bool) -> None:
        """Also when another one has its slot, or before the next snapshot."""
        home = SessionBindings()
        scheduler, snapshot = Scheduler(SchedulingProfile(filters=[SessionAffinityFilter(home)])), make_snapshot(2)
        bound = scheduler.schedule(of_session("a"), snapshot)
        departed = 1 << bound.slot if departs else 0
        after = snapshot if departs else reborn(snapshot, bound.slot, 2)
        assert home.slot_of(of_session("a"), after) == (bound.slot if departs else None)
        moved = scheduler.schedule(of_session("a"), after, departed=departed)
        assert moved.slot == home.slot_of(of_session("a"), after)
        assert moved.slot != bound.slot or not departs

    @pytest.mark.parametrize(("seconds", "returns"), [(4, True), (6, False)])
    def test_a_session_returns_when_its_endpoint_is_back(self, seconds: float, returns: bool) -> None:
        """Within the binding's time, though it was picked elsewhere meanwhile; later it stays where it is."""
        clock = ManualClock()
        home = SessionBindings(ttl=10, clock=clock)
        scheduler, snapshot = Scheduler(SchedulingProfile(filters=[SessionAffinityFilter(home)])), make_snapshot(2)
        slot = scheduler.schedule(of_session("a"), snapshot).slot
        away, back = reborn(snapshot, slot, 2), reborn(snapshot, slot, 3, again=True)
        for _ in range(2):
            moved = scheduler.schedule(of_session("a"), away, departed=1 << slot).slot
            assert moved != slot
            clock.advance(seconds)
        assert moved == home.slot_of(of_session("a"), away)

        assert (slot if returns else moved) == scheduler.schedule(of_session("a"), back).slot

    def test_a_session_finds_its_endpoint_that_is_back(self) -> None:
        """A pod that was away, and nobody asked for meanwhile, is the session's as before."""
        home = SessionBindings()
        scheduler, snapshot = Scheduler(SchedulingProfile(filters=[SessionAffinityFilter(home)])), make_snapshot(9)
        slot = scheduler.schedule(of_session("a"), snapshot).slot

        assert slot == scheduler.schedule(of_session("a"), reborn(snapshot, slot, 2, again=True)).slot

    def test_a_session_expires(self) -> None:
        """A while after its last request, not after its first; then it is bound anew."""
        clock = ManualClock()
        home = SessionBindings(ttl=10, clock=clock)
        scheduler, snapshot = Scheduler(SchedulingProfile(filters=[SessionAffinityFilter(home)])), make_snapshot(50)
        slot = scheduler.schedule(of_session("a"), snapshot).slot
        clock.advance(9)
        assert slot == scheduler.schedule(of_session("a"), snapshot).slot
        clock.advance(9)
        assert slot == home.slot_of(of_session("a"), snapshot)
        clock.advance(1)
        assert home.slot_of(of_session("a"), snapshot) is None
        scheduler.schedule(of_session("b"), snapshot)
        scheduler.schedule(of_session("c"), snapshot)
        assert 2 == len(home)

    def test_memory_is_bounded(self) -> None:
        """Whatever the number and the length of the ids, the sessions seen last are kept."""
        home = SessionBindings(capacity=100)
        scheduler, snapshot = Scheduler(SchedulingProfile(filters=[SessionAffinityFilter(home)])), make_snapshot(3)
        long = "x" * 10_000
        for number in range(1000):
            scheduler.schedule(of_session(f"{long}{number}"), snapshot).release()
        assert 100 == len(home)
        assert max(map(len, home._bound)) <= 128
        assert home.slot_of(of_session(f"{long}999"), snapshot) is not None
        assert home.slot_of(of_session(f"{long}899"), snapshot) is None

    def test_an_explanation_is_that_of_the_pick(self) -> None:
        """A first request had no home, whatever it was bound to then."""
        home = SessionBindings()
        scheduler, snapshot = Scheduler(SchedulingProfile(scorers=[SessionAffinityScorer(home)])), make_snapshot(2)
        request = of_session("a")
        first, second = scheduler.schedule(request, snapshot), scheduler.schedule(request, snapshot)
        assert [0, 0] == scores_of(first, "session-affinity-scorer")
        assert 1 == scores_of(second, "session-affinity-scorer")[first.slot]

    def test_several_headers(self) -> None:
        """The first that is there names the session."""
        home = SessionBindings(headers=["X-User", "x-session-id"])
        scheduler, snapshot = Scheduler(SchedulingProfile(filters=[SessionAffinityFilter(home)])), make_snapshot(9)
        scheduler.schedule(of_session("a", **{"x-user": "u"}), snapshot)
        scheduler.schedule(of_session("a"), snapshot)
        scheduler.schedule(InferenceRequest(), snapshot)
        assert ["u", "a"] == list(home._bound)

    def test_threads(self) -> None:
        """Many threads bind and look up; no session ever has two homes."""
        home = SessionBindings(capacity=1000)
        scheduler = Scheduler(SchedulingProfile(filters=[SessionAffinityFilter(home)]))
        snapshot, wrong = make_snapshot(20), list[str]()
        homes = {f"s{number}": scheduler.schedule(of_session(f"s{number}"), snapshot).slot for number in range(50)}

        def pick(seed: int) -> None:
            rng = Random(seed)
            for _ in range(300):
                name = f"s{rng.randrange(50)}"
                result = scheduler.schedule(of_session(name), snapshot)
                if result.slot != homes[name]:
                    wrong.append(name)
                result.release()

        threads = [Thread(target=pick, args=[seed]) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not wrong
        assert 50 == len(home)


class TestYieldingToLoad:
    """A bound on how loaded the endpoint of a session may be."""

    def slots(self, strategy: Any, picks: int) -> list[int]:
        """Where the requests of one session go, none of them released."""
        role = {"filters": [strategy]} if isinstance(strategy, SessionAffinityFilter) else {"scorers": [(strategy)]}
        scorers = [*role.get("scorers", []), WeightedScorer(QueueScorer(), 0.01)]
        profile = SchedulingProfile(filters=role.get("filters", []), scorers=scorers)
        scheduler, snapshot = Scheduler(profile, rng=Random(1)), make_snapshot(4)
        return [scheduler.schedule(of_session("a"), snapshot).slot for _ in range(picks)]

    @pytest.mark.parametrize("strategy", [SessionAffinityFilter, SessionAffinityScorer])
    def test_beyond_the_bound_others_get_them(self, strategy: Any) -> None:
        """Up to the slack it stays; then it is held to the factor times the average."""
        slots = self.slots(strategy(SessionBindings(), LoadBound(2, 6)), 40)
        assert [slots[0]] * 6 == slots[:6]
        assert 20 == slots.count(slots[0])
        unbound = self.slots(strategy(SessionBindings()), 40)
        assert [unbound[0]] * 40 == unbound

    def test_the_limit(self) -> None:
        """The larger of the slack and the rounded-up factor times the average with this pick."""
        seen: list[tuple[int, bool, bool]] = []

        class Asker:
            def narrow(self, _: InferenceRequest, candidates: Any) -> int:
                bound = LoadBound(1.25, 3)
                seen.append((bound.limit(candidates), bound.allows(0, candidates), bool(bound.allowed(candidates) & 1)))
                return 1

        scheduler = Scheduler(SchedulingProfile(filters=[Asker()]))
        for _ in range(14):
            scheduler.schedule(InferenceRequest(), make_snapshot(5))
        limits = [max(3, -(-5 * (held + 1) // 20)) for held in range(14)]
        expected = [(limit, held < limit, held < limit) for held, limit in enumerate(limits)]
        assert expected == seen


class TestNotes:
    """What explanations say about sessions."""

    def test_the_home_and_whether_it_is_crowded(self) -> None:
        """Once, although filter and scorer both know."""
        home, bound = SessionBindings(), LoadBound(1, 2)
        profile = SchedulingProfile(
            filters=[SessionAffinityFilter(home, bound)], scorers=[SessionAffinityScorer(home, bound)]
        )
        scheduler, snapshot = Scheduler(profile), make_snapshot(2)
        slot = scheduler.schedule(of_session("a"), snapshot).slot
        seen = []
        for _ in range(2):
            explanation = scheduler.schedule(of_session("a"), snapshot).explain()
            seen.append({item.endpoint.pod_name: item.notes for item in explanation.candidates}[f"pod-{slot}"])
        assert [("home of the session",), ("home of the session, but crowded",)] == seen


class TestPreferencesAndFallbacks:
    """A filter that keeps one endpoint leaves fallbacks."""

    def test_fallbacks_come_from_those_it_left_out(self) -> None:
        """The home first, then the best of the others; the explanation shows where each came from."""
        snapshot = make_snapshot({"a": {"waiting_queue_size": 5}, "b": {"waiting_queue_size": 1}, "c": {}})
        home = SessionBindings()
        profile = SchedulingProfile(
            filters=[SessionAffinityFilter(home)], scorers=[QueueScorer()], max_num_of_endpoints=3
        )
        scheduler = Scheduler(profile)
        scheduler.schedule(of_session("s"), snapshot, subset="10.0.0.1")
        result = scheduler.schedule(of_session("s"), snapshot)
        assert ("a", ["c", "b"]) == (result.endpoint.pod_name, [item.pod_name for item in result.fallbacks])
        explanation = result.explain()
        assert ["a"] == [item.endpoint.pod_name for item in explanation.candidates]
        assert {"c": 2, "b": 3} == {item.endpoint.pod_name: item.place for item in explanation.rejected}
        assert "fallback 1  default/c-rank-0" in str(explanation)
        assert 2 == explanation.to_dict()["rejected"][1]["place"]

    def test_departed_endpoints_are_no_fallbacks(self) -> None:
        """Neither the home nor the others."""
        snapshot = make_snapshot(4)
        profile = SchedulingProfile(filters=[SessionAffinityFilter(SessionBindings())], max_num_of_endpoints=4)
        scheduler = Scheduler(profile)
        home = scheduler.schedule(of_session("s"), snapshot).slot
        gone = to_endpoint_set([(home + 1) % 4])
        result = scheduler.schedule(of_session("s"), snapshot, departed=gone)
        assert home == result.slot
        assert {(home + 2) % 4, (home + 3) % 4} == set(result.fallback_slots)


class TestDocuments:
    """Parameters as configuration documents give them."""

    def test_session_ids(self) -> None:
        """All fields arrive."""
        config = {
            "sources": [{"header": "X-User"}, {"header": "x-session-id"}],
            "evictionTtlSeconds": 60,
            "evictionSweepSeconds": 5,
            "capacity": 10,
        }
        parameters = {"strategy": "session_id", "sessionIdConfig": config, "loadFactor": 2, "loadSlack": 4}
        for name in ("session-affinity-scorer", "session-affinity-filter"):
            strategy: Any = build_strategy(name, parameters).strategy
            assert (("x-user", "x-session-id"), 60, 10) == (
                strategy.home.headers,
                strategy.home.ttl,
                strategy.home.capacity,
            )
            assert LoadBound(2, 4) == strategy.load_bound

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"strategy": "cookie"}, "strategy: 'cookie' is neither 'encoded_endpoint_header' nor 'session_id'"),
            ({"encodedEndpointHeaderConfig": {"header": ""}}, "encodedEndpointHeaderConfig.header: '' is not a string"),
            ({"encodedEndpointHeaderConfig": {"name": "x"}}, "encodedEndpointHeaderConfig.name: 'x' is for a field"),
            (
                {"encodedEndpointHeaderConfig": "x"},
                "encodedEndpointHeaderConfig: 'x' is not an object with any of header",
            ),
            ({"sessionIdConfig": {"ttl": 3}}, "sessionIdConfig.ttl: 3 is for a field that it does not have"),
            ({"sessionIdConfig": {"evictionTtlSeconds": 0}}, "sessionIdConfig.evictionTtlSeconds: 0 is not a finite"),
            ({"sessionIdConfig": {"evictionSweepSeconds": 0}}, "evictionSweepSeconds: 0 is not a number above 0"),
            ({"sessionIdConfig": {"capacity": 0}}, "sessionIdConfig.capacity: 0 is not a whole number from 1"),
            ({"sessionIdConfig": {"sources": []}}, "sessionIdConfig.sources: [] is not a list of one or more"),
            ({"sessionIdConfig": {"sources": [{}]}}, "sessionIdConfig.sources[0].header: None is not the name"),
            ({"sessionIdConfig": {"sources": [{"attribute": "a"}]}}, "sources[0].attribute: 'a' is for a field"),
            ({"loadFactor": 0}, "loadFactor: 0 is not a finite number of 1 or more"),
        ],
    )
    def test_refuses(self, parameters: dict[str, Any], message: str) -> None:
        """The error names the strategy, the field, its value and what is allowed."""
        parameters = {"strategy": "session_id", **parameters}
        if "encodedEndpointHeaderConfig" in parameters:
            parameters["strategy"] = "encoded_endpoint_header"
        with pytest.raises(ConfigurationError) as caught:
            build_strategy("session-affinity-filter", parameters)
        assert str(caught.value).startswith("session-affinity-filter: ")
        assert message in str(caught.value)

    @pytest.mark.parametrize("headers", ["", [], [3], 3, None])
    def test_bad_headers(self, headers: Any) -> None:
        """Names of headers, one or more."""
        with pytest.raises(ConfigurationError, match=r"headers: .* is not a list of one or more header names"):
            SessionBindings(headers=headers)


def test_response_headers_of_several() -> None:
    """Strategies that want one each get theirs; results of profiles without have none."""
    profile = SchedulingProfile(
        scorers=[SessionAffinityScorer(EncodedEndpoint("a")), SessionAffinityScorer(EncodedEndpoint("b"))]
    )
    result: PickResult = Scheduler(profile).schedule(InferenceRequest(), make_snapshot(1))
    assert ["a", "b"] == sorted(result.response_headers)
    assert {} == Scheduler(SchedulingProfile()).schedule(InferenceRequest(), make_snapshot(1)).response_headers
