"""Profiles: what is a strategy, and what weights are allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, nan
from typing import Any

import pytest

from inferencepool.errors import ConfigurationError, EndpointsFilteredError
from inferencepool.model import Candidate, Candidates, InferenceRequest, Snapshot
from inferencepool.plugins import QueueScorer
from inferencepool.scheduling import (
    MAX_WEIGHT,
    MaxScorePicker,
    NamedFilter,
    PickResult,
    Scheduler,
    SchedulingProfile,
    ScoredCandidate,
    WeightedScorer,
    strategy_name,
)
from inferencepool.testing import make_snapshot


class TwoKinds:
    """A scorer, filter and picker of two kinds each."""

    score = score_endpoints = keep = filter = choose = pick = print


class ShortQueue:
    """A plain filter: at most so many waiting requests as the request allows."""

    def filter(self, request: InferenceRequest, candidates: Candidates) -> Iterable[Candidate]:
        """Look at the load."""
        limit = int(request.headers["limit"])
        return (item for item in candidates if item.metrics.waiting_queue_size <= limit)


class ByName:
    """A plain scorer: 1 for the pod that the request names."""

    def score(self, request: InferenceRequest, candidates: Candidates) -> Sequence[float]:
        """Look at the request."""
        return [float(item.endpoint.pod_name == request.model) for item in candidates]


class Worst:
    """A plain picker: the lowest scores first."""

    def pick(
        self, _request: InferenceRequest, scored: Sequence[ScoredCandidate], count: int
    ) -> Sequence[ScoredCandidate]:
        """Sort."""
        return sorted(scored, key=lambda item: (item.score, item.endpoint.pod_name))[:count]


SNAPSHOT = make_snapshot({"a": {"waiting_queue_size": 0}, "b": {"waiting_queue_size": 4}, "c": {}})


@pytest.mark.parametrize("weight", [-1, -0.5, nan, inf, True, "1"])
def test_a_weight_is_a_number_of_zero_or_more(weight: Any) -> None:
    """The error names the scorer and the value."""
    with pytest.raises(ConfigurationError, match=r"queue-scorer: weight: .* is not a finite number of 0 or more"):
        WeightedScorer(QueueScorer(), weight)


def test_the_sum_of_weights_is_limited() -> None:
    """More would make sums of scores inexact."""
    half = WeightedScorer(QueueScorer(), MAX_WEIGHT / 2)
    SchedulingProfile(scorers=[half, half])
    with pytest.raises(ConfigurationError, match="the weights sum up to"):
        SchedulingProfile(scorers=[half, half, QueueScorer()])


@pytest.mark.parametrize("strategy", [TwoKinds(), object()])
def test_a_strategy_has_one_kind(strategy: Any) -> None:
    """With several methods or none of them nobody could tell how to ask it."""
    with pytest.raises(ConfigurationError, match="a scorer has exactly one of"):
        WeightedScorer(strategy)
    with pytest.raises(ConfigurationError, match="a filter has exactly one of"):
        NamedFilter(strategy)
    with pytest.raises(ConfigurationError, match="a picker has exactly one of"):
        SchedulingProfile(picker=strategy)


@pytest.mark.parametrize("count", [0, -1, 1.0, True, None])
def test_a_pick_returns_at_least_one(count: Any) -> None:
    """The number of endpoints is a whole number of 1 or more."""
    with pytest.raises(ConfigurationError, match="max_num_of_endpoints"):
        SchedulingProfile(max_num_of_endpoints=count)


def test_ties_are_broken_in_a_known_way() -> None:
    """An unknown way is refused; rotation takes all in turn."""
    wrong: Any = "first"
    with pytest.raises(ConfigurationError, match="tie_break"):
        MaxScorePicker(tie_break=wrong)
    scheduler = Scheduler(SchedulingProfile(picker=MaxScorePicker(tie_break="rotation")))
    assert [scheduler.schedule(InferenceRequest(), SNAPSHOT).slot for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_names_are_in_kebab_case() -> None:
    """As in configurations; abbreviations stay together."""
    assert strategy_name(ShortQueue()) == "short-queue"
    assert strategy_name(type("KVCacheScorer", (), {})()) == "kv-cache-scorer"


def test_plain_strategies_decide_together() -> None:
    """A plain filter, scorer and picker: walked, scored and chosen in the order of the picker."""
    scorers: list[Any] = [ByName(), WeightedScorer(QueueScorer(), 0)]
    profile = SchedulingProfile(filters=[ShortQueue()], scorers=scorers, picker=Worst(), max_num_of_endpoints=2)
    scheduler = Scheduler(profile)
    assert scheduler.profile is profile
    result = scheduler.schedule(InferenceRequest(model="a", headers={"limit": "3"}), SNAPSHOT)
    assert [result.endpoint.pod_name, *(item.pod_name for item in result.fallbacks)] == ["c", "a"]
    explanation = result.explain()
    assert [item.reason for item in explanation.rejected] == ["filter short-queue"]
    with pytest.raises(EndpointsFilteredError, match="short-queue"):
        scheduler.schedule(InferenceRequest(headers={"limit": "-1"}), SNAPSHOT)


class Misspelt:
    """A scorer with a method that looks like one that is looked for."""

    def score(self, _request: InferenceRequest, candidates: Candidates) -> Sequence[float]:
        """Give 0."""
        return [0.0] * len(candidates)

    def release(self) -> None:
        """Never asked."""


class MisspeltProducer:
    """A producer that would never be asked whether it knows a request."""

    def produce(self, request: InferenceRequest, snapshot: Snapshot) -> None:
        """Find nothing out."""

    def has_chached(self, _result: PickResult) -> bool:
        """Never asked."""
        return True


class WithMisspeltProducer:
    """A scorer with that producer."""

    producers = (MisspeltProducer(),)
    score = Misspelt.score


class OddlyPointwise:
    """A scorer with an attribute that looks like one that is looked for."""

    point_wise = True

    def score_endpoints(self, candidates: Candidates) -> Sequence[float]:
        """Give 0."""
        return [0.0] * len(candidates)


class Nearly:
    """No scorer: its method is misspelt."""

    def score_endpoint(self, candidates: Candidates) -> Sequence[float]:
        """Give 0."""
        return [0.0] * len(candidates)


class OfClass:
    """A scorer that names a class as its producer."""

    producers = (Misspelt,)
    score = Misspelt.score


class TestMistakes:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (
                {"scorers": [QueueScorer]},
                "scorer queue-scorer: QueueScorer is a class; give an instance, such as",
            ),
            ({"filters": [ShortQueue]}, "filter short-queue: ShortQueue is a class"),
            ({"picker": MaxScorePicker}, "picker max-score-picker: MaxScorePicker is a class"),
            ({"scorers": [OfClass()]}, "producer misspelt: Misspelt is a class"),
            ({"scorers": [Misspelt()]}, "misspelt: release: is not looked for, but released is"),
            (
                {"scorers": [WithMisspeltProducer()]},
                "misspelt-producer: has_chached: is not looked for, but has_cached is",
            ),
            ({"scorers": [OddlyPointwise()]}, "oddly-pointwise: point_wise: is not looked for, but pointwise is"),
            ({"scorers": [Nearly()]}, "has none of them, but score_endpoint; is score_endpoints meant?"),
        ],
    )
    def test_a_mistake_is_named(self, fields: dict[str, Any], message: str) -> None:
        """What would be passed over in silence is refused, with the name that is probably meant."""
        with pytest.raises(ConfigurationError) as caught:
            SchedulingProfile(**fields)
        assert message in str(caught.value)

    def test_type_checkers_see_what_is_no_scorer(self) -> None:
        """Mypy would tell of a comment that ignores nothing; pyright is asked in `tests.pages.test_types`."""
        with pytest.raises(ConfigurationError):
            SchedulingProfile(scorers=[Nearly()])  # type: ignore[list-item]  # wrong on purpose
        with pytest.raises(ConfigurationError):
            SchedulingProfile(filters=[Nearly()])  # type: ignore[list-item]  # wrong on purpose
