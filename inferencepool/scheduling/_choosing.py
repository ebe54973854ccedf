"""What pickers choose and what strategies add to a response, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from inferencepool.errors import StrategyError
from inferencepool.model import EndpointSet, InferenceRequest, to_slots
from inferencepool.scheduling._candidate_set import Standing
from inferencepool.scheduling._profile import SchedulingProfile
from inferencepool.scheduling._protocols import ScoredCandidate
from inferencepool.scheduling._strategies import quoted, strategy_name
from inferencepool.scheduling._terms import ONE

__all__ = ["check_choice", "check_headers", "choose_plainly"]


def check_choice(profile: str, slots: object, members: EndpointSet, count: int) -> int:
    """
    Check the *slots* that a picker chose among *members*; gives the first of them.

    Raises:
        StrategyError: They are not 1 to *count* different members.
    """
    listed: list[Any] = []
    with suppress(Exception):  # whatever it is, it is no choice
        listed = list(slots) if isinstance(slots, Sequence) else []
    known = [slot for slot in listed if type(slot) is int and slot >= 0 and members >> slot & 1]
    if not 0 < len(listed) <= count or len(set(known)) != len(listed):
        message = f"profile {profile}: picker: chose slots {quoted(slots)}, not 1 to {count} different candidates"
        raise StrategyError(message)
    return known[0]


def choose_plainly(
    profile: SchedulingProfile, request: InferenceRequest, standing: Standing, count: int, /
) -> list[int]:
    """
    Let a plain picker choose among all candidates.

    Raises:
        StrategyError: It gave something else than candidates that it was given.
    """
    scored = [
        ScoredCandidate(standing.snapshot.candidate(slot), standing.score(slot) / ONE)
        for slot in to_slots(standing.members)
    ]
    picker: Any = profile.picker
    picked = picker.pick(request, scored, count)
    known = {id(item): item.candidate.slot for item in scored}
    try:
        return [known[id(item)] for item in picked]
    except Exception as error:
        message = f"profile {profile.name}: picker: gave {quoted(picked)}, not a list of candidates"
        raise StrategyError(message) from error


def check_headers(profile: str, ask: Callable[..., object], given: Any) -> Mapping[str, str]:
    """
    Check the headers that *ask*, a method of a strategy, wants a response to have.

    Raises:
        StrategyError: They are no texts by name. The message shows none: some are secret.
    """
    headers: dict[Any, Any] = {}
    with suppress(Exception):  # whatever it is, it is no mapping
        headers.update(given)
        if all(type(text) is str for item in headers.items() for text in item):
            return headers
    name = strategy_name(getattr(ask, "__self__", ask))
    message = f"profile {profile}: {name}: gave response headers that are no texts by name"
    raise StrategyError(message)
