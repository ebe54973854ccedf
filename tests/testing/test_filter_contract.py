from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from inferencepool.model import Candidate, Candidates, Endpoint, EndpointSet, InferenceRequest
from inferencepool.plugins import ByLabel, DecodeFilter, EncodeFilter, PrefillFilter
from inferencepool.scheduling import CandidateSet, Filter
from inferencepool.testing import check_filter


class InZone:
    def keep(self, endpoint: Endpoint) -> bool:
        """Keep one zone, and who tells none."""
        return endpoint.labels.get("zone", "a") == "a"


class HasRoom:
    def filter(self, request: InferenceRequest, candidates: Candidates) -> Iterable[Candidate]:
        """Give them lazily."""
        return (item for item in candidates if not request.model or item.metrics.has_room())


class Everyone:
    def filter(self, _request: InferenceRequest, candidates: Candidates) -> Iterable[Candidate]:
        """Give what was given."""
        return candidates


class Lightest:
    is_preference = True

    def narrow(self, request: InferenceRequest, candidates: CandidateSet) -> EndpointSet:
        """Keep those with the fewest picks in flight."""
        return candidates.least_in_flight(candidates.members) if request.model else candidates.members


GOOD: list[Filter] = [
    Lightest(),
    InZone(),
    HasRoom(),
    Everyone(),
    ByLabel("zone", ["a"]),
    DecodeFilter(),
    PrefillFilter(),
    EncodeFilter(),
]


def _keep(give: Any) -> Any:
    return SimpleNamespace(keep=give)


def _filter(give: Any) -> Any:
    return SimpleNamespace(filter=give)


def _narrow(give: Any) -> Any:
    return SimpleNamespace(narrow=give)


def _every_other() -> Any:
    calls = count()
    return lambda *_: next(calls) % 2 == 0


def _changing_bits() -> Any:
    calls = count()
    return lambda _, candidates: next(calls) & candidates.members


def _half() -> Any:
    calls = count()
    # Of no period that the number of questions could be a multiple of.
    return lambda _, candidates: candidates[: next(calls).bit_count() % 2]


def _stranger(_: InferenceRequest, candidates: Candidates) -> list[Candidate]:
    slot = next(slot for slot in candidates.snapshot.fleet.slots if slot not in candidates.slots)
    return [candidates.snapshot.candidate(slot)]


def _stranger_of_a_part(request: InferenceRequest, candidates: Candidates) -> list[Candidate]:
    return [] if len(candidates) == len(candidates.snapshot) else _stranger(request, candidates)


def _rename(request: InferenceRequest, _: Candidates) -> list[Candidate]:
    request.model = "x"
    return []


def _clear(_: InferenceRequest, candidates: Candidates) -> list[Candidate]:
    if isinstance(candidates.slots, list):
        candidates.slots.clear()
    return []


BAD = {
    "no bool": (_keep(lambda endpoint: endpoint.labels.get("zone")), "gave None for default/pod-0-rank-0"),
    "changing mind": (_keep(_every_other()), "gave [True], then [False] for equal input"),
    "changed labels": (_keep(lambda endpoint: endpoint.labels.update(a="b") is None), "changed its input"),
    "error": (_keep(lambda endpoint: endpoint.labels["zone"] == "a"), "raised KeyError: 'zone'"),
    "twice": (_filter(lambda _, candidates: [*candidates, candidates[0]]), "gave a candidate twice: the slots [0, 0]"),
    "stranger": (_filter(_stranger_of_a_part), "which is none of the candidates, asked about a part of 100 endpoints"),
    "copy": (_filter(lambda _, c: [attrs.evolve(c[0])]), "which is none of the candidates"),
    "slots": (_filter(lambda _, candidates: candidates.slots), "gave 0, which is none of the candidates"),
    "nothing": (_filter(lambda _, __: None), "raised TypeError: 'NoneType' object is not iterable"),
    "lazy error": (_filter(lambda _, c: (item for item in c if 1 / item.slot)), "raised ZeroDivisionError"),
    "changing choice": (_filter(_half()), "for equal input"),
    "changed model": (_filter(_rename), "changed its input"),
    "changed slots": (
        _filter(_clear),
        "changed its input, asked about a part of 100 endpoints for the model ''",
    ),
    "no set": (_narrow(lambda _, c: list(c.snapshot.fleet.slots)), "gave [0], not an EndpointSet, which is an int"),
    "a complement": (_narrow(lambda _, c: ~c.members), "gave -2, not an EndpointSet, which is an int of 0 or more"),
    "a flag": (_narrow(lambda _, __: True), "gave True, not an EndpointSet"),
    "changing set": (_narrow(_every_other()), "not an EndpointSet"),
    "changing bits": (_narrow(_changing_bits()), "for equal input"),
    "no filter": (object(), "a filter has exactly one of keep, narrow, filter; this one has none of them"),
}


@pytest.mark.parametrize("item", GOOD, ids=lambda item: type(item).__name__)
def test_good_filter_passes(item: Filter) -> None:
    """A filter that keeps its contract is not complained about, of whatever kind it is."""
    check_filter(item)


@pytest.mark.parametrize(("item", "fault"), BAD.values(), ids=BAD)
def test_bad_filter_is_caught(item: Any, fault: str) -> None:
    """A filter that breaks its contract is named, with what is wrong."""
    with pytest.raises(AssertionError, match=f"^filter .*{re.escape(fault)}"):
        check_filter(item)
