from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from inferencepool.model import Candidates, EndpointSet, InferenceRequest, Snapshot
from inferencepool.plugins import (
    KvCacheUtilizationScorer,
    LoadAwareScorer,
    LoraAffinityScorer,
    QueueScorer,
    RunningRequestsSizeScorer,
)
from inferencepool.scheduling import Demand, LinearLoad, Scorer
from inferencepool.testing import check_scorer

NAN = float("nan")


class FreeCache:
    pointwise = True

    def score_endpoints(self, candidates: Candidates) -> Sequence[float]:
        """Score free space."""
        return [1 - used for used in candidates.kv_cache_usage]


class RelativeQueue:
    def score_load(self, candidates: Candidates) -> LinearLoad:
        """Score the shortest queue 1."""
        return LinearLoad.relative(candidates.waiting_queue_size)


class CappedQueue:
    def score_load(self, candidates: Candidates) -> LinearLoad:
        """Score by a fixed scale."""
        return LinearLoad([min(waiting, 8) for waiting in candidates.waiting_queue_size], 8, 1 / 8)


class Running:
    def affinities(self, request: InferenceRequest, snapshot: Snapshot) -> Sequence[tuple[float, EndpointSet]]:
        """Score who runs the model 1, and some strangers 0.5."""
        return [(1.0, snapshot.lora_active.get(request.model, 0)), (0.5, snapshot.lora_room | 1 << 1000)]


class HasModel:
    def score(self, request: InferenceRequest, candidates: Candidates) -> Sequence[float]:
        """Look at every candidate."""
        return tuple(float(request.model in item.metrics.active_models) for item in candidates)


GOOD: list[Scorer] = [
    FreeCache(),
    RelativeQueue(),
    CappedQueue(),
    Running(),
    HasModel(),
    QueueScorer(),
    RunningRequestsSizeScorer(),
    KvCacheUtilizationScorer(),
    LoadAwareScorer(),
    LoraAffinityScorer(),
]


def _scores(give: Callable[[Candidates], Any], **attributes: Any) -> Any:
    return SimpleNamespace(score_endpoints=give, **attributes)


def _plain(give: Callable[[InferenceRequest, Candidates], Any]) -> Any:
    return SimpleNamespace(score=give)


def _load(give: Callable[[Candidates], Any]) -> Any:
    return SimpleNamespace(score_load=give)


def _sets(give: Callable[[InferenceRequest, Snapshot], Any]) -> Any:
    return SimpleNamespace(affinities=give)


def _linear(zero: Any, step: Any) -> Any:
    return _load(lambda candidates: LinearLoad([0] * len(candidates), zero, step))


def _changing() -> Any:
    calls = count()
    return _scores(lambda candidates: [1 / (1 + next(calls))] * len(candidates))


def _changing_sets() -> Any:
    calls = count()
    return _sets(lambda _, __: [(0.5, next(calls))])


def _by_identity() -> Any:
    seen: list[Snapshot] = []

    def give(candidates: Candidates) -> list[float]:
        if not any(candidates.snapshot is known for known in seen):
            seen.append(candidates.snapshot)
        return [1 / len(seen)] * len(candidates)

    return _scores(give)


def _spoils(spoil: Callable[[InferenceRequest, Candidates], object]) -> Any:
    def give(request: InferenceRequest, candidates: Candidates) -> list[float]:
        spoil(request, candidates)
        return [0.0] * len(candidates)

    return _plain(give)


def _measured(amounts: Any, *, is_relative: bool = False) -> Any:
    scorer = SimpleNamespace(amounts=amounts)
    scorer.score_load = lambda c: LinearLoad([0] * len(c), 9, 1 / 9, is_relative, of=scorer)
    return scorer


BAD = {
    "NaN": (_scores(lambda c: [NAN] * len(c)), "gave NaN for candidate 0 of 1"),
    "one too few": (_scores(lambda c: [0.0] * (len(c) - 1)), "gave 0 scores for 1 candidates"),
    "too many": (_plain(lambda _, c: [0.0] * (len(c) + 1)), "gave 2 scores for 1 candidates"),
    "above 1": (_plain(lambda _, c: [1.5] * len(c)), "gave 1.5 for candidate 0 of 1, not a score from 0 to 1"),
    "below 0": (_scores(lambda c: [-0.1] * len(c)), "gave -0.1 for candidate 0 of 1, not a score from 0 to 1"),
    "infinite": (_scores(lambda c: [float("inf")] * len(c)), "gave inf for candidate 0"),
    "below 0 under extreme load": (_scores(lambda c: [1 - q / 99 for q in c.waiting_queue_size]), "of extreme load"),
    "text for a score": (_scores(lambda c: ["1"] * len(c)), "gave '1' for candidate 0 of 1, not a number"),
    "nothing": (_plain(lambda _, __: None), "gave None, not a sequence"),
    "a generator": (_scores(lambda c: (0.0 for _ in c)), "not a sequence"),
    "a mapping": (_scores(lambda c: {item.slot: 0.0 for item in c}), "gave {0: 0.0}, not a sequence"),
    "long text": (_scores(lambda _: "?" * 999), " ..., not a sequence"),
    "an error": (
        _scores(lambda c: [1 / q for q in c.waiting_queue_size]),
        "raised ZeroDivisionError: division by zero",
    ),
    "changing scores": (_changing(), "for equal input, asked about one idle endpoint"),
    "scores by identity": (_by_identity(), "gave [1.0], then [0.5] for equal input"),
    "not pointwise": (
        _scores(lambda c: [1 / len(c)] * len(c), pointwise=True),
        "is pointwise, yet gave default/pod-0-rank-0 (10.0.0.1:8000) 0.3333333333333333 among others and [1.0] alone",
    ),
    "changed column": (_spoils(lambda _, c: c.snapshot.waiting_queue_size.append(1)), "changed its input"),  # type: ignore[attr-defined]  # wrong on purpose
    "changed headers": (_spoils(lambda r, _: r.headers.update(a="b")), "changed its input"),  # type: ignore[attr-defined]  # wrong on purpose
    "changed model": (_spoils(lambda r, _: setattr(r, "model", "x")), "changed its input"),
    "changed labels": (_spoils(lambda _, c: c[0].endpoint.labels.update(a="b")), "changed its input"),  # type: ignore[attr-defined]  # wrong on purpose
    "changed LoRA sets": (_spoils(lambda _, c: c.snapshot.lora_active.update(x=1)), "changed its input"),  # type: ignore[attr-defined]  # wrong on purpose
    "no load": (_load(lambda c: [0.0] * len(c)), "gave [0.0], not a LinearLoad"),
    "too many loads": (_load(lambda c: LinearLoad([0] * (len(c) + 1), 1, 1)), "gave 2 loads for 1 candidates"),
    "fractions of requests": (_load(lambda c: LinearLoad([0.5] * len(c), 1, 1)), "not whole numbers"),  # type: ignore[list-item]  # wrong on purpose
    "fractional zero": (_linear(0.5, 1.0), "gave the loads [0] and the zero 0.5, not whole numbers"),
    "negative step": (_linear(0, -1.0), "gave the step -1.0, not a finite number of 0 or more"),
    "NaN step": (_linear(0, NAN), "gave the step nan, not a finite number of 0 or more"),
    "no step": (_linear(0, None), "gave the step None, not a finite number of 0 or more"),
    "load score above 1": (_linear(3, 0.5), "gave candidate 0 the score 1.5 with nothing pending"),
    "load score below 0": (_linear(-1, 0.5), "gave candidate 0 the score -0.5 with nothing pending"),
    "hidden relation": (
        _load(
            lambda c: LinearLoad(c.waiting_queue_size, max(c.waiting_queue_size), 1 / (1 + max(c.waiting_queue_size)))
        ),
        "a step that depends on which endpoints are candidates, and is_relative is not set",
    ),
    "no sets": (_sets(lambda _, __: None), "gave None, not a list"),
    "unknown model": (_sets(lambda r, s: [(1.0, s.lora_active[r.model])]), "raised KeyError: '', asked about one idle"),
    "no pairs": (_sets(lambda _, __: [1.0]), "gave 1.0, not a pair of a score and an EndpointSet"),
    "triples": (_sets(lambda _, __: [(1.0, 1, 1)]), "not a pair of a score and an EndpointSet"),
    "set of NaN": (_sets(lambda _, __: [(NAN, 1)]), "gave NaN for the set 1"),
    "set above 1": (_sets(lambda _, __: [(2, 1)]), "gave 2 for the set 1, not a score from 0 to 1"),
    "slots for a set": (_sets(lambda _, __: [(1.0, {0, 1})]), "gave {0, 1}, not an EndpointSet"),
    "a complement": (_sets(lambda _, s: [(1.0, ~s.lora_room)]), "gave -1, not an EndpointSet"),
    "changing sets": (_changing_sets(), "for equal input"),
    "changed sets": (_sets(lambda _, s: s.lora_active.update(x=1) or []), "changed its input"),  # type: ignore[attr-defined]  # wrong on purpose
    "no sets among": (SimpleNamespace(affinities_among=lambda _, __: None), "gave None, not a list"),
    "score among": (
        SimpleNamespace(affinities_among=lambda _, c: [(c.total_in_flight(), c.members)]),
        "not a score from 0 to 1",
    ),
    "no demand": (_measured(lambda _, __: 3), "has a measure that gave 3, not a Demand"),
    "half a token": (_measured(lambda _, __: Demand(0.5)), "has a measure that gave the amount 0.5"),  # type: ignore[arg-type]  # wrong on purpose
    "less than nothing": (_measured(lambda _, __: Demand(1, [(-1, 1)])), "has a measure that gave the amount -1"),
    "a relative measure": (
        _measured(lambda _, __: Demand(1), is_relative=True),
        "gave a load of a measure that is relative to the candidates",
    ),
    "no scorer": (
        object(),
        "a scorer has exactly one of score_endpoints, score_load, affinities, affin",
    ),
    "two kinds": (SimpleNamespace(score=len, affinities=len), "this one has affinities and score"),
    "a class": (HasModel, "HasModel is a class; give an instance"),
}


@pytest.mark.parametrize("scorer", GOOD, ids=lambda scorer: type(scorer).__name__)
def test_good_scorer_passes(scorer: Scorer) -> None:
    """A scorer that keeps its contract is not complained about, of whatever kind it is."""
    check_scorer(scorer)


@pytest.mark.parametrize(("scorer", "fault"), BAD.values(), ids=BAD)
def test_bad_scorer_is_caught(scorer: Any, fault: str) -> None:
    """A scorer that breaks its contract is named, with what is wrong."""
    with pytest.raises(AssertionError, match=f"^scorer .*{re.escape(fault)}"):
        check_scorer(scorer)


def test_message_names_the_input() -> None:
    """The message tells which fleet and which model the scorer was asked about."""
    scorer = _plain(lambda request, candidates: [float(len(request.model))] * len(candidates))

    with pytest.raises(AssertionError, match=r"asked about one idle endpoint for the model 'chat'$"):
        check_scorer(scorer)


def test_assertion_of_the_scorer_itself_comes_through() -> None:
    """An assertion that fails inside a scorer is shown as it is."""

    def give(_: Candidates) -> Any:
        message = "my own"
        raise AssertionError(message)

    with pytest.raises(AssertionError, match=r"^my own$"):
        check_scorer(_scores(give))
