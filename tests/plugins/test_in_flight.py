"""Load by what is in flight: formulas by the reference's tables, and every way in which load ends."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from inferencepool.errors import StrategyError
from inferencepool.model import Candidates, EndpointSet, InferenceRequest, Snapshot
from inferencepool.plugins import (
    ActiveRequestScorer,
    ApproxPrefixCacheProducer,
    InflightLoadProducer,
    PrefixCacheAffinityFilter,
    TokenLoadScorer,
    estimate_tokens,
)
from inferencepool.scheduling import CandidateSet, Demand, LinearLoad, PickResult, Scheduler, SchedulingProfile
from inferencepool.testing import make_snapshot


def scores_of(result: PickResult, name: str) -> list[float]:
    """What the scorer *name* gave each endpoint, by slot."""
    explanation = result.explain()
    by_name = {item.endpoint.pod_name: item for item in explanation.candidates}
    return [
        next(score.score for score in by_name[f"pod-{slot}"].scores if score.name == name)
        for slot in range(len(by_name))
    ]


def hold(scheduler: Scheduler, snapshot: Snapshot, counts: list[int], **fields: Any) -> list[PickResult]:
    """Put picks in flight, so many at each slot."""
    return [
        scheduler.schedule(InferenceRequest(**fields), snapshot, subset=[snapshot.fleet.at(slot).destination])
        for slot, count in enumerate(counts)
        for _ in range(count)
    ]


class TestActiveRequestScorer:
    """``active-request-scorer``."""

    @pytest.mark.parametrize(
        ("scorer", "counts", "expected"),
        [
            (ActiveRequestScorer(), [0, 0, 0], [1, 1, 1]),
            (ActiveRequestScorer(), [4, 0, 1], [0, 1, 0.75]),
            (ActiveRequestScorer(), [2, 2, 2], [0, 0, 0]),
            (ActiveRequestScorer(idle_threshold=1), [4, 0, 1], [0, 1, 1]),
            (ActiveRequestScorer(idle_threshold=4), [4, 0, 1], [1, 1, 1]),
            (ActiveRequestScorer(max_busy_score=0.5), [4, 0, 2], [0, 1, 0.25]),
        ],
    )
    def test_scores(self, scorer: ActiveRequestScorer, counts: list[int], expected: list[float]) -> None:
        """Idle endpoints score 1, the busiest 0, those between in proportion and no more than the busy maximum."""
        snapshot, scheduler = make_snapshot(3), Scheduler(SchedulingProfile(scorers=[scorer]))
        held = hold(scheduler, snapshot, counts)
        result = scheduler.schedule(InferenceRequest(), snapshot)
        assert expected == pytest.approx(scores_of(result, "active-request-scorer"))
        for item in (*held, result):
            item.release()
        idle = scheduler.schedule(InferenceRequest(), snapshot)
        assert [1, 1, 1] == pytest.approx(scores_of(idle, "active-request-scorer"))

    def test_what_is_in_flight_elsewhere_counts_among_candidates_only(self) -> None:
        """The busiest endpoint of the fleet is none of the candidates: it normalises nothing."""
        snapshot, scheduler = make_snapshot(3), Scheduler(SchedulingProfile(scorers=[ActiveRequestScorer()]))
        hold(scheduler, snapshot, [8, 2, 1])
        part = [snapshot.fleet.at(slot).destination for slot in (1, 2)]
        explanation = scheduler.schedule(InferenceRequest(), snapshot, subset=part).explain()
        assert [("pod-2", 0.5), ("pod-1", 0.0)] == [
            (item.endpoint.pod_name, item.scores[0].score) for item in explanation.candidates
        ]


class TestTokens:
    """Estimates of tokens, and what a request adds."""

    @pytest.mark.parametrize(
        ("request_", "expected"),
        [
            (InferenceRequest(), 0),
            (InferenceRequest(prompt=b"x"), 1),
            (InferenceRequest(prompt=b"x" * 8), 2),
            (InferenceRequest(prompt=b"x" * 9), 3),
            (InferenceRequest(prompt=b"x" * 9, prompt_tokens=[7] * 100), 100),
            (InferenceRequest(prompt_tokens=[]), 0),
        ],
    )
    def test_estimate(self, request_: InferenceRequest, expected: int) -> None:
        """One token for four bytes, or the exact number where the ids came."""
        assert expected == estimate_tokens(request_)

    @pytest.mark.parametrize(
        ("producer", "fields", "expected"),
        [
            (InflightLoadProducer(), {}, 100),
            (InflightLoadProducer(add_estimated_output_tokens=True), {}, 250),
            (InflightLoadProducer(add_estimated_output_tokens=True), {"max_output_tokens": 20}, 120),
            (InflightLoadProducer(add_estimated_output_tokens=True, max_estimated_output_tokens=7), {}, 107),
            (InflightLoadProducer(add_estimated_output_tokens=True, output_ratio=0), {}, 100),
        ],
    )
    def test_demand(self, producer: InflightLoadProducer, fields: dict[str, Any], expected: int) -> None:
        """The prompt, and with the option the response, within the limits of the request and of the producer."""
        request = InferenceRequest(prompt=b"x" * 400, **fields)
        assert expected == producer.amounts(request, make_snapshot(1)).amount

    def test_cached_tokens_are_no_work(self) -> None:
        """A block that an endpoint holds counts for nothing there; what lies behind the last whole block counts."""
        snapshot, prefix = make_snapshot(2), ApproxPrefixCacheProducer()
        prefix.index.insert(prefix.index.match(b"x" * 320, ("", "")), 1)
        demand = InflightLoadProducer(prefix).amounts(InferenceRequest(prompt=b"x" * 400), snapshot)
        assert (100, 20) == (demand.at(0), demand.at(1))

    def test_a_demand_is_bounded(self) -> None:
        """However large the estimate, sums stay exact."""
        producer = InflightLoadProducer(add_estimated_output_tokens=True, output_ratio=1e300)
        assert 2**31 - 1 == producer.amounts(InferenceRequest(prompt=b"x" * 400), make_snapshot(1)).amount


class TestTokenLoadScorer:
    """``token-load-scorer``."""

    @pytest.mark.parametrize(
        ("held", "tokens", "expected"),
        [([0, 0], 0, [1, 1]), ([100, 300], 0, [0.9, 0.7]), ([100, 300], 200, [0.7, 0.5]), ([900, 0], 200, [-0.1, 0.8])],
    )
    def test_scores(self, held: list[int], tokens: int, expected: list[float]) -> None:
        """One less the share of the threshold that is in flight, the request's own tokens included."""
        snapshot = make_snapshot(2)
        scheduler = Scheduler(SchedulingProfile(scorers=[TokenLoadScorer(queue_threshold_tokens=1000)]))
        for slot, amount in enumerate(held):
            hold(scheduler, snapshot, [int(slot == 0), int(slot == 1)], prompt_tokens=[1] * amount)
        result = scheduler.schedule(InferenceRequest(prompt_tokens=[1] * tokens), snapshot)
        assert expected == pytest.approx(scores_of(result, "token-load-scorer"))
        assert 1 - (expected[0] > expected[1]) == result.slot or held[0] == held[1]

    @pytest.mark.parametrize("estimates", [False, True])
    def test_tokens_end_when_the_response_begins_or_when_it_ends(self, estimates: bool) -> None:
        """Without an estimate of the response, all is done once it begins; else all waits for its end."""
        snapshot, scorer = (
            make_snapshot(1),
            TokenLoadScorer(InflightLoadProducer(add_estimated_output_tokens=estimates)),
        )
        scheduler = Scheduler(SchedulingProfile(scorers=[scorer]))

        def in_flight() -> int:
            return scheduler._fleet.reservations.amounts[0][0]

        result = scheduler.schedule(InferenceRequest(prompt_tokens=[1] * 10), snapshot)
        assert in_flight() == (25 if estimates else 10)
        result.started()
        assert in_flight() == (25 if estimates else 0)
        other = scheduler.schedule(InferenceRequest(prompt_tokens=[1] * 4), snapshot)
        other.detach()
        result.started()
        result.release()
        assert in_flight() == (10 if estimates else 4)
        other.release()
        other.started()
        assert in_flight() == 0

    def test_tokens_of_an_endpoint_that_went_are_gone(self) -> None:
        """The next occupant of its slot starts at 0, whatever is released late."""
        scheduler = Scheduler(SchedulingProfile(scorers=[TokenLoadScorer()]))
        result = scheduler.schedule(InferenceRequest(prompt_tokens=[1] * 10), make_snapshot(1))
        newcomer = make_snapshot({"other": {}}, generation=2)
        object.__setattr__(newcomer.fleet, "births", (99,))
        scheduler.adopt(newcomer)
        assert scheduler._fleet.reservations.amounts == [[0]]
        result.started()
        result.release()
        assert scheduler._fleet.reservations.amounts == [[0]]


class TestMeasuresOfOnesOwn:
    """A load scorer that counts something of its own."""

    def test_ten_lines(self) -> None:
        """A strategy may be its own measure."""

        class Images:
            def amounts(self, request: InferenceRequest, _: Snapshot) -> Demand:
                return Demand(request.prompt.count(b"image"))

            def score_load(self, candidates: Candidates) -> LinearLoad:
                return LinearLoad([0] * len(candidates), 100, 0.01, of=self)

        snapshot, scheduler = make_snapshot(2), Scheduler(SchedulingProfile(scorers=[Images()]), rng=Random(1))
        first = scheduler.schedule(InferenceRequest(prompt=b"image image"), snapshot).slot
        assert [1 - first] * 2 == [
            scheduler.schedule(InferenceRequest(prompt=b"image"), snapshot).slot for _ in range(2)
        ]

    @pytest.mark.parametrize("amount", [-1, 2**31, 0.5, True, "1"])
    def test_bad_amounts(self, amount: Any) -> None:
        """The error names the measure and what is allowed."""

        class Odd:
            def amounts(self, _: InferenceRequest, __: Snapshot) -> Demand:
                return Demand(amount)

            def score_load(self, candidates: Candidates) -> LinearLoad:
                return LinearLoad([0] * len(candidates), 100, 0.01, of=self)

        scheduler = Scheduler(SchedulingProfile(scorers=[Odd()]))
        with pytest.raises(StrategyError, match=r"measure odd: gave the amount .* not a whole number from 0"):
            scheduler.schedule(InferenceRequest(), make_snapshot(1))

    def test_a_measure_that_nobody_names(self) -> None:
        """The scheduler could not count it."""

        class Stranger:
            def score_load(self, candidates: Candidates) -> LinearLoad:
                return LinearLoad([0] * len(candidates), 100, 0.01, of=InflightLoadProducer())

        class Asker:
            def narrow(self, _: InferenceRequest, candidates: CandidateSet) -> EndpointSet:
                return candidates.least_amount(InflightLoadProducer(), candidates.members) or 0

        scheduler = Scheduler(SchedulingProfile(scorers=[Stranger()]))
        with pytest.raises(StrategyError, match=r"scorer stranger: gave a load of .* which no strategy"):
            scheduler.schedule(InferenceRequest(), make_snapshot(1))
        scheduler = Scheduler(SchedulingProfile(filters=[Asker()]))
        with pytest.raises(StrategyError, match="measure inflight-load-producer: is asked for, but no strategy"):
            scheduler.schedule(InferenceRequest(), make_snapshot(1))

    def test_a_relative_load_has_no_measure(self) -> None:
        """Its step would be another for every set of candidates."""

        class Relative:
            def amounts(self, _: InferenceRequest, __: Snapshot) -> int:
                return 3

            def score_load(self, candidates: Candidates) -> LinearLoad:
                return LinearLoad([0] * len(candidates), 1, 1.0, is_relative=True, of=self)  # type: ignore[arg-type]  # wrong on purpose

        scheduler = Scheduler(SchedulingProfile(scorers=[Relative()]))
        with pytest.raises(StrategyError, match="scorer relative: gave a load of a measure that is relative"):
            scheduler.adopt(make_snapshot(1))


class TestPrefixCacheAffinityFilter:
    """``prefix-cache-affinity-filter``."""

    PROMPT = b"p" * 640

    def kept(self, counts: list[int], **parameters: Any) -> set[str]:
        """Whom it keeps of four, of which two hold the prompt, with so many requests of 1000 tokens in flight."""
        snapshot, item = make_snapshot(4), PrefixCacheAffinityFilter(**parameters)
        scheduler = Scheduler(SchedulingProfile(filters=[item]), rng=Random(3))
        # Salts of their own keep them from sharing a prefix: each is 1000 tokens of work.
        for number in range(max(counts, default=0)):
            once = [int(count > number) for count in counts]
            hold(scheduler, snapshot, once, prompt_tokens=[1] * 1000, cache_salt=f"salt {number}")
        for slot, share in ((0, 640), (1, 512), (2, 448)):
            item.producer.index.insert(item.producer.index.match(self.PROMPT[:share], ("", "")), slot)
        result = scheduler.schedule(InferenceRequest(prompt=self.PROMPT), snapshot)
        return {item.endpoint.pod_name[4:] for item in result.explain().candidates}

    @pytest.mark.parametrize(
        ("parameters", "counts", "expected"),
        [
            ({}, [], "01"),
            ({"affinity_threshold": 0.9}, [], "0"),
            ({"affinity_threshold": 0.7}, [], "012"),
            ({"affinity_threshold": 0}, [], "0123"),
            ({"affinity_threshold": -1}, [], "0123"),
            ({"exploration_probability": 1}, [], "0123"),
            ({"peak_prefill_throughput": 100, "max_ttft_penalty_ms": 19_999}, [2, 2], "0123"),
            ({"peak_prefill_throughput": 100, "max_ttft_penalty_ms": 20_000}, [2, 2], "01"),
            ({"peak_prefill_throughput": 100, "max_ttft_penalty_ms": 9_999}, [2, 1], "0123"),
            ({"peak_prefill_throughput": 100, "max_ttft_penalty_ms": 9_999}, [2, 0], "01"),
            ({"peak_prefill_throughput": 100, "max_ttft_penalty_ms": 0}, [2, 2], "01"),
        ],
    )
    def test_keeps(self, parameters: dict[str, Any], counts: list[int], expected: str) -> None:
        """Those above the threshold, unless the best of them answers so much later than the best of the others."""
        assert set(expected) == self.kept(counts, **parameters)

    def test_nobody_holds_enough(self) -> None:
        """Then all are kept."""
        snapshot = make_snapshot(3)
        scheduler = Scheduler(SchedulingProfile(filters=[PrefixCacheAffinityFilter()]))
        result = scheduler.schedule(InferenceRequest(prompt=self.PROMPT), snapshot)
        assert 3 == len(result.explain().candidates)


@pytest.mark.parametrize(
    ("tokens", "ratio", "expected"), [(1, 0.5, 1), (3, 0.5, 2), (5, 0.5, 3), (1, 2.5, 3), (1, 0.49, 0)]
)
def test_output_tokens_round_half_away_from_zero(tokens: int, ratio: float, expected: int) -> None:
    """As the reference rounds, and not to the nearest even number."""
    producer = InflightLoadProducer(add_estimated_output_tokens=True, output_ratio=ratio)
    demand = producer.amounts(InferenceRequest(prompt=b"four" * tokens), make_snapshot(1))
    assert tokens + expected == demand.amount
