from __future__ import annotations

import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from inferencepool.model import InferenceRequest, to_slots
from inferencepool.plugins import (
    ConsistentHashPicker,
    LeastRequestPicker,
    MaxScorePicker,
    PowerOfTwoChoicesPicker,
    RandomPicker,
    RoundRobinPicker,
    WeightedRandomPicker,
)
from inferencepool.scheduling import Picker, ScoredCandidate, Standing
from inferencepool.testing import check_picker


class Lowest:
    def choose(self, _request: InferenceRequest, standing: Standing, count: int) -> Sequence[int]:
        """Give the first of the best."""
        return to_slots(standing.best())[:count]


class Sorted:
    def pick(
        self, _request: InferenceRequest, scored: Sequence[ScoredCandidate], count: int
    ) -> Sequence[ScoredCandidate]:
        """Give the best."""
        return sorted(scored, key=lambda item: item.score, reverse=True)[:count]


GOOD: list[Picker] = [
    Lowest(),
    Sorted(),
    MaxScorePicker(),
    MaxScorePicker(tie_break="rotation"),
    RandomPicker(),
    WeightedRandomPicker(),
    RoundRobinPicker(),
    PowerOfTwoChoicesPicker(),
    LeastRequestPicker(),
    ConsistentHashPicker(),
]


def _choose(give: Any) -> Any:
    return SimpleNamespace(choose=give)


def _pick(give: Any) -> Any:
    return SimpleNamespace(pick=give)


def _spoil_standing(_: InferenceRequest, standing: Any, __: int) -> list[int]:
    slot = to_slots(standing.members)[0]
    standing.members = 0
    return [slot]


def _rename(request: InferenceRequest, _: Standing, __: int) -> list[int]:
    request.id = "x"
    return [0]


def _positive(_: InferenceRequest, standing: Standing, count: int) -> list[int]:
    return [slot for slot in to_slots(standing.members) if standing.score(slot) > 0][:count]


def _idle(_: InferenceRequest, standing: Standing, count: int) -> list[int]:
    return [slot for slot in to_slots(standing.members) if not standing.in_flight(slot)][:count]


BAD = {
    "nothing chosen": (
        _choose(lambda *_: []),
        "gave 0 candidates, not 1 to 1, asked about one idle endpoint, candidates: 1, count: 1",
    ),
    "none where all score 0": (_choose(_positive), "gave 0 candidates"),
    "none where all are busy": (_choose(_idle), "gave 0 candidates"),
    "too many chosen": (_choose(lambda _, s, __: to_slots(s.members)), "gave 3 candidates, not 1 to 1"),
    "stranger chosen": (_choose(lambda *_: [0]), "chose the slot 0, which is none of the candidates"),
    "whole fleet for a part": (
        _choose(lambda _, s, __: [s.snapshot.fleet.slots[-1]]),
        "which is none of the candidates, asked about three idle endpoints, candidates: 1, count: 1",
    ),
    "slot below 0": (_choose(lambda *_: [-1]), "chose the slot -1, which is none of the candidates"),
    "no slot": (_choose(lambda *_: ["0"]), "chose the slot '0', which is none of the candidates"),
    "truth for a slot": (_choose(lambda *_: [False]), "chose the slot False, which is none of the candidates"),
    "chosen twice": (_choose(lambda _, s, n: to_slots(s.members)[:1] * n), "chose a candidate twice: the slots [0, 0]"),
    "a set": (_choose(lambda _, s, __: s.best()), "gave 1, not a sequence"),
    "a generator": (_pick(lambda _, scored, n: iter(scored[:n])), "not a sequence"),
    "error": (_choose(lambda *_: 1 / 0), "raised ZeroDivisionError"),
    "changed standing": (_choose(_spoil_standing), "changed the members of its standing"),
    "changed request": (_choose(_rename), "changed its input"),
    "nothing picked": (_pick(lambda *_: ()), "gave 0 candidates, not 1 to 1"),
    "too many picked": (_pick(lambda _, scored, __: scored), "gave 3 candidates, not 1 to 1"),
    "stranger picked": (_pick(lambda _, scored, __: [attrs.evolve(scored[0])]), "which is none of the candidates"),
    "picked twice": (_pick(lambda _, scored, n: scored[:1] * n), "picked a candidate twice"),
    "sorted in place": (_pick(lambda _, scored, n: scored.reverse() or scored[:n]), "changed its input"),
    "no picker": (object(), "a picker has exactly one of choose, pick; this one has none of them"),
}


@pytest.mark.parametrize("picker", GOOD, ids=lambda picker: type(picker).__name__)
def test_good_picker_passes(picker: Picker) -> None:
    """A picker that keeps its contract is not complained about, of whatever kind it is."""
    check_picker(picker)


@pytest.mark.parametrize(("picker", "fault"), BAD.values(), ids=BAD)
def test_bad_picker_is_caught(picker: Any, fault: str) -> None:
    """A picker that breaks its contract is named, with what is wrong."""
    with pytest.raises(AssertionError, match=f"^picker .*{re.escape(fault)}"):
        check_picker(picker)
