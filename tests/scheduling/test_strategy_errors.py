"""Strategies that break their contract: each a clear error that names the strategy, and nothing reserved."""

from __future__ import annotations

from math import inf, nan
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from inferencepool.errors import StrategyError
from inferencepool.model import Candidates, InferenceRequest
from inferencepool.plugins import default_profile
from inferencepool.scheduling import LinearLoad, NamedFilter, Scheduler, SchedulingProfile, WeightedScorer
from inferencepool.testing import make_snapshot

REQUEST = InferenceRequest()


def refused(*, filters: Any = (), scorers: Any = (), picker: Any = None) -> str:
    """The message that a pick among three endpoints is refused with; nothing is in flight after it."""
    chosen = {} if picker is None else {"picker": picker}
    scheduler = Scheduler(SchedulingProfile(filters=filters, scorers=scorers, max_num_of_endpoints=2, **chosen))
    with pytest.raises(StrategyError) as caught:
        scheduler.schedule(REQUEST, make_snapshot(3))
    assert scheduler.in_flight == 0
    assert caught.value.http_status == 500
    return str(caught.value)


def scorer(method: str, answer: object) -> WeightedScorer:
    """A scorer that gives the same whatever it is asked."""
    strategy: Any = SimpleNamespace(**{method: lambda *_: answer})
    return WeightedScorer(strategy, name="bad-scorer")


@pytest.mark.parametrize("method", ["score", "score_endpoints"])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([1.0, 0.5], "scorer bad-scorer: gave 2 scores for 3 candidates"),
        ([1.0] * 4, "scorer bad-scorer: gave 4 scores for 3 candidates"),
        ([0.0, nan, 1.0], "scorer bad-scorer: gave NaN for candidate 1 of 3"),
        (None, "scorer bad-scorer: gave no sequence of numbers"),
        (["a", "b", "c"], "scorer bad-scorer: gave no sequence of numbers"),
    ],
)
def test_scores_must_be_one_number_per_candidate(method: str, answer: object, message: str) -> None:
    """A wrong number of scores, NaN or no numbers: refused, by name."""
    assert message in refused(scorers=[scorer(method, answer)])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([0, 0, 0], "not a LinearLoad"),
        (LinearLoad([1, 2], 2, 1.0), "gave 2 loads for 3 candidates"),
        (LinearLoad([0.5, 1, 2], 2, 1.0), "loads that are not whole numbers"),  # type: ignore[list-item]  # wrong
        (LinearLoad([0, 1, 2], 2, -1.0), "gave the step -1.0"),
        (LinearLoad([0, 1, 2], 2, nan), "gave the step nan"),
        (LinearLoad([0, 1, 2], 2, inf), "gave the step inf"),
    ],
)
def test_loads_must_be_whole_numbers(answer: object, message: str) -> None:
    """A load scorer that gives something else is refused."""
    assert message in refused(scorers=[scorer("score_load", answer)])


@pytest.mark.parametrize("answer", [None, [1], [("a", 1)], [(1.0, {0})]])
def test_affinities_must_be_pairs(answer: object) -> None:
    """A sparse scorer gives pairs of a score and a set."""
    assert "bad-scorer: gave" in refused(scorers=[scorer("affinities", answer)])


@pytest.mark.parametrize("answer", [None, [1], [("a", 1)], [(1.0, {0})]])
def test_affinities_among_candidates_must_be_pairs(answer: object) -> None:
    """A scorer among candidates gives pairs of a score and a set."""
    assert "bad-scorer: gave" in refused(scorers=[scorer("affinities_among", answer)])


@pytest.mark.parametrize("answer", [None, -1, [1], "1", 1.0])
def test_a_set_filter_gives_a_set(answer: object) -> None:
    """Anything but a set of endpoints is refused."""
    strategy: Any = SimpleNamespace(narrow=lambda *_: answer)
    assert "filter bad-filter: gave" in refused(filters=[NamedFilter(strategy, name="bad-filter")])


def test_a_measure_gives_a_demand() -> None:
    """Anything else is refused; the error names the measure."""

    class Odd:
        def affinities(self, *_: object) -> list[tuple[float, int]]:
            return []

        def amounts(self, *_: object) -> Any:
            return 3

    assert "measure odd: gave 3, not a Demand" in refused(scorers=[Odd()])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (["pod"], "filter bad-filter: gave 'pod', which is none of the candidates"),
        ([make_snapshot(5).candidate(4)], "which is none of the candidates"),
        (7, "filter bad-filter: gave 7, not a list of candidates"),
    ],
)
def test_a_filter_gives_candidates(answer: object, message: str) -> None:
    """What a filter keeps is among what it was asked about."""
    strategy: Any = SimpleNamespace(filter=lambda *_: answer)
    assert message in refused(filters=[NamedFilter(strategy, name="bad-filter")])


@pytest.mark.parametrize("answer", [[], [0, 0], [0, 1, 2], [3], [2, 9]])
def test_a_picker_chooses_members(answer: list[int]) -> None:
    """One to *count* different members; anything else is refused."""
    assert "picker" in refused(picker=SimpleNamespace(choose=lambda *_: answer))


@pytest.mark.parametrize("answer", [[], ["pod"], [make_snapshot(3).candidate(0)]])
def test_a_plain_picker_chooses_from_what_it_got(answer: list[object]) -> None:
    """Something that it was not offered is refused, and so is nothing at all."""
    assert "picker" in refused(picker=SimpleNamespace(pick=lambda *_: answer))


@pytest.mark.parametrize("method", ["score", "score_endpoints"])
def test_scores_outside_are_clamped(method: str) -> None:
    """Below 0 counts as 0, above 1 and infinity as 1."""
    profile = SchedulingProfile(scorers=[scorer(method, [-3.0, inf, 0.25])])
    explanation = Scheduler(profile).schedule(REQUEST, make_snapshot(3)).explain()
    assert [candidate.total for candidate in explanation.candidates] == [1.0, 0.25, 0.0]


def test_a_load_too_large_to_score_exactly_is_refused() -> None:
    """A scorer of the user's own may not tell loads whose sums would be rounded."""

    class Absurd:
        def score_load(self, candidates: Candidates) -> LinearLoad:
            return LinearLoad([2**40] * len(candidates), 2**40, 1.0)

    scheduler = Scheduler(SchedulingProfile(scorers=[Absurd()]))
    with pytest.raises(StrategyError, match="absurd: gave loads or a zero outside"):
        scheduler.schedule(InferenceRequest(), make_snapshot(2))


def test_one_absurd_queue_does_not_make_all_endpoints_tie() -> None:
    """However far the loads are apart, one request more costs something."""
    scheduler = Scheduler(default_profile(), rng=Random(1))
    snapshot = make_snapshot({"a": {"waiting_queue_size": 2**31 - 1}, "b": {"waiting_queue_size": 0}})

    assert {"b"} == {scheduler.schedule(InferenceRequest(), snapshot).endpoint.pod_name for _ in range(50)}


@pytest.mark.parametrize("choice", [None, 5, [], [-1], ["a"], [None], [0.0], [3], [0, 0], [0, 1, 2], [True, 1]])
def test_a_picker_must_choose_candidates(choice: object) -> None:
    """Anything else than one to two different slots of candidates: refused, by the profile's name."""
    picker: Any = SimpleNamespace(choose=lambda *_: choice)
    message = f"profile default: picker: chose slots {choice!r}, not 1 to 2 different candidates"
    assert message == refused(picker=picker)


@pytest.mark.parametrize("method", ["affinities", "affinities_among"])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([(nan, 1)], "scorer bad-scorer: gave NaN for a set of endpoints"),
        ([(0.5, 3.0)], "scorer bad-scorer: gave 3.0, not an EndpointSet"),
        ([(0.5, -1)], "scorer bad-scorer: gave -1, not an EndpointSet"),
        ([(0.5, 1), ("x", 2)], "not pairs of a score and an EndpointSet"),
    ],
)
def test_affinities_must_be_scores_and_sets(method: str, answer: object, message: str) -> None:
    """What is no score or no set is refused; sets of nobody and scores of 0 or below are nothing wrong."""
    assert message in refused(scorers=[scorer(method, answer)])
    fine = scorer(method, [(0.5, 0), (0.0, 1), (-1.0, 1), (0.5, 2)])
    assert 1 == Scheduler(SchedulingProfile(scorers=[fine])).schedule(REQUEST, make_snapshot(3)).slot
