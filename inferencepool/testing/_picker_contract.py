"""The contract check for pickers: whoever picks is watched from between it and a real scheduler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import attrs

from inferencepool.errors import ConfigurationError
from inferencepool.model import Candidates, EndpointSet, InferenceRequest, Snapshot
from inferencepool.scheduling import (
    LinearLoad,
    Picker,
    Scheduler,
    SchedulingProfile,
    ScoredCandidate,
    Standing,
    strategy_name,
)
from inferencepool.testing._cases import Case, cases, requests
from inferencepool.testing._clock import ManualClock
from inferencepool.testing._contracts import Subject

__all__ = ["check_picker"]

# Picks in a row that nobody releases, so that pickers that look at load see some.
_ROUNDS = 3


def check_picker(picker: Picker) -> None:
    """
    Check that *picker*, of either kind, keeps its contract.

    It must choose 1 to *count* candidates, none twice, and leave its input alone: also from one candidate, from a part
    of the fleet, when all score 0, and while earlier picks are in flight. It need not be deterministic.

    Raises:
        AssertionError: It does not; the message says what is wrong, and with which input.
    """
    try:
        kind = SchedulingProfile(picker=picker).picker_kind
    except ConfigurationError as error:
        raise AssertionError(str(error)) from error
    for scorers in ((), (_ByQueue(),), (_ByQueue(), _EvenSlots()), (_Nothing(),)):
        for count in (1, 2, 5):
            for case in cases():
                _pick_from(case, picker, kind, scorers, count)


def _pick_from(case: Case, picker: Picker, kind: str, scorers: Sequence[Any], count: int) -> None:
    subject = Subject(f"picker {strategy_name(picker)}", case.label)
    watched: Any = _WatchedChoice(picker, subject) if kind == "choose" else _WatchedPick(picker, subject)
    profile = SchedulingProfile(picker=watched, scorers=scorers, max_num_of_endpoints=count)
    scheduler = Scheduler(profile, rng=Random(count), clock=ManualClock())
    fleet = case.snapshot.fleet
    part = [fleet.at(slot).destination for slot in case.slots]
    for _ in range(_ROUNDS):
        for request in requests():
            # A hint for all is another path through the scheduler than no hint: candidates are scored one by one.
            for subset in _subsets(part, whole=len(case.slots) == len(fleet)):
                scheduler.schedule(request, case.snapshot, subset=subset)


def _subsets(part: list[str], *, whole: bool) -> Iterator[list[str] | None]:
    if whole:
        yield None
    yield part
    yield part[:1]


@attrs.frozen
class _WatchedChoice:
    """Asks a picker with ``choose``, and checks what it gives."""

    _picker: Any
    _subject: Subject

    def choose(self, request: InferenceRequest, standing: Standing, count: int) -> Sequence[int]:
        """Ask and check."""
        members = standing.members
        subject = _with(self._subject, members.bit_count(), count)
        chosen = subject.ask(self._picker.choose, request, standing, count)
        subject.require(standing.members == members, "changed the members of its standing")
        _check_count(subject, chosen, count)
        for slot in chosen:
            is_slot = isinstance(slot, int) and not isinstance(slot, bool) and slot >= 0
            subject.require(
                is_slot and members >> slot & 1, f"chose the slot {slot!r}, which is none of the candidates"
            )
        subject.require(len(set(chosen)) == len(chosen), f"chose a candidate twice: the slots {list(chosen)}")
        return list(chosen)


@attrs.frozen
class _WatchedPick:
    """Asks a picker with ``pick``, and checks what it gives."""

    _picker: Any
    _subject: Subject

    def pick(
        self, request: InferenceRequest, scored: Sequence[ScoredCandidate], count: int
    ) -> Sequence[ScoredCandidate]:
        """Ask and check."""
        subject = _with(self._subject, len(scored), count)
        known = {id(item) for item in scored}
        chosen = subject.ask(self._picker.pick, request, scored, count)
        _check_count(subject, chosen, count)
        for item in chosen:
            subject.require(id(item) in known, f"picked {item!r}, which is none of the candidates")
        ids = {id(item) for item in chosen}
        subject.require(len(ids) == len(chosen), f"picked a candidate twice: {list(chosen)}")
        return list(chosen)


def _with(subject: Subject, candidates: int, count: int) -> Subject:
    return attrs.evolve(subject, asked=f"{subject.asked}, candidates: {candidates}, count: {count}")


def _check_count(subject: Subject, chosen: Any, count: int) -> None:
    is_sequence = isinstance(chosen, Sequence) and not isinstance(chosen, str | bytes)
    subject.require(is_sequence, f"gave {chosen!r}, not a sequence")
    subject.require(0 < len(chosen) <= count, f"gave {len(chosen)} candidates, not 1 to {count}")


class _ByQueue:
    """Makes the scores depend on load, so that they fall with every pick in flight."""

    def score_load(self, candidates: Candidates) -> LinearLoad:
        return LinearLoad.relative(candidates.waiting_queue_size)


class _EvenSlots:
    """Makes the scores depend on the request."""

    def affinities(self, request: InferenceRequest, snapshot: Snapshot) -> Sequence[tuple[float, EndpointSet]]:
        return [(0.5, snapshot.fleet.members & 0x5555)] if request.model else []


class _Nothing:
    """Gives everyone 0, candidate by candidate."""

    def score(self, _request: InferenceRequest, candidates: Candidates) -> Sequence[float]:
        return [0.0] * len(candidates)
