"""Preferences, rules, and who is asked first."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from inferencepool.errors import EndpointsFilteredError
from inferencepool.model import Candidate, Candidates, EndpointSet, InferenceRequest, Snapshot
from inferencepool.scheduling import NamedFilter, Scheduler, SchedulingProfile
from inferencepool.testing import make_snapshot

REQUEST = InferenceRequest()
FIRST, SECOND, THIRD = 1, 2, 4


def keeping(name: str, kept: EndpointSet, *, is_preference: bool = False) -> NamedFilter:
    """A set filter that keeps the same whatever it is asked."""
    strategy: Any = SimpleNamespace(narrow=lambda *_: kept, is_preference=is_preference)
    return NamedFilter(strategy, name=name)


class TestYielding:
    def test_a_preference_yields_to_a_rule_behind_it(self) -> None:
        """Where the rule leaves nothing of what it kept, it is as if it had not been asked; the rule holds."""
        filters = [keeping("wish", FIRST, is_preference=True), keeping("rule", SECOND)]
        result = Scheduler(SchedulingProfile(filters=filters)).schedule(REQUEST, make_snapshot(3))

        assert 1 == result.slot
        explanation = result.explain()
        assert ["pod-1"] == [item.endpoint.pod_name for item in explanation.candidates]
        assert [("pod-0", "filter rule"), ("pod-2", "filter rule")] == sorted(
            (item.endpoint.pod_name, item.reason) for item in explanation.rejected
        )

    def test_it_goes_on_behind_the_rule(self) -> None:
        """Later filters see what the rule left."""
        filters = [
            keeping("wish", FIRST, is_preference=True),
            keeping("rule", SECOND | THIRD),
            keeping("other wish", FIRST | THIRD, is_preference=True),
        ]
        assert 2 == Scheduler(SchedulingProfile(filters=filters)).schedule(REQUEST, make_snapshot(3)).slot

    def test_rules_that_leave_nobody(self) -> None:
        """They refuse the request, whatever preferences there are."""
        filters = [keeping("wish", FIRST, is_preference=True), keeping("rule", 0)]
        with pytest.raises(EndpointsFilteredError, match="no endpoint left by the filters rule"):
            Scheduler(SchedulingProfile(filters=filters)).schedule(REQUEST, make_snapshot(3))


def test_producers_come_before_filters() -> None:
    """A filter finds what its producer found out, at the pick as in the explanation."""

    class Finder:
        def produce(self, request: InferenceRequest, _snapshot: Snapshot) -> None:
            assert request.produced is not None
            request.produced[self] = "found"

    class Filter:
        def __init__(self) -> None:
            self.producers = (Finder(),)
            self.seen: list[object] = []

        def filter(self, request: InferenceRequest, candidates: Candidates) -> Sequence[Candidate]:
            assert request.produced is not None
            self.seen.append(request.produced.get(self.producers[0]))
            return list(candidates)

    strategy = Filter()
    Scheduler(SchedulingProfile(filters=[strategy])).schedule(REQUEST, make_snapshot(2)).explain()
    assert ["found", "found"] == strategy.seen
