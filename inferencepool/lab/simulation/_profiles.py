"""Profiles as people type them: by name, or as a weighted sum of strategies."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import attrs

from inferencepool.errors import ConfigurationError
from inferencepool.lab.simulation._notation import Scanner
from inferencepool.lab.simulation._simulation import ProfileFactory
from inferencepool.plugins import build_strategy, default_profile
from inferencepool.scheduling import NamedFilter, SchedulingProfile, WeightedScorer

__all__ = ["PROFILES", "parse_profile"]


_PRODUCER = "-producer"


@attrs.frozen
class _Item:
    """One strategy of a profile, as it was typed."""

    type: str
    weight: float | None
    parameters: Mapping[str, Any]


def parse_profile(text: str) -> ProfileFactory:
    """
    Read a profile.

    It is the name of one of `PROFILES`, or strategies with ``+`` between them, such as
    ``2*queue-scorer + load-aware-scorer(threshold=64) + max-score-picker``: each a type name of configuration
    documents, with its parameters in parentheses where it needs any, and before a scorer its weight where that is not
    1. Filters are asked in the order given; without a picker the highest score wins. Strategies share the producers
    that are given, and those that they need beside them are made.

    Args:
        text: The profile.

    Returns:
        What makes it, anew at each call.

    Raises:
        ConfigurationError: The text makes no sense, or names what is not there; the message tells what is allowed.
    """
    named = PROFILES.get(text.strip())
    if named is not None:
        return named
    make = partial(_build, text, _items(text))
    # Mistakes are told here, not when the profile is used.
    make()
    return make


def _items(text: str) -> tuple[_Item, ...]:
    scanner = Scanner("profile", text)
    items: list[_Item] = []
    while True:
        weight = scanner.number()
        if weight is not None:
            scanner.expect("*")
        items.append(_Item(scanner.name("strategy"), weight, scanner.parameters()))
        if scanner.at_end:
            return tuple(items)
        scanner.expect("+")


def _build(text: str, items: tuple[_Item, ...]) -> SchedulingProfile:
    filters: list[NamedFilter] = []
    scorers: list[WeightedScorer] = []
    rest: dict[str, Any] = {}
    producers = dict[str, Any]()
    # Producers come first, so that strategies use those that were given.
    for item in sorted(items, key=lambda item: not item.type.endswith(_PRODUCER)):
        try:
            built = build_strategy(item.type, item.parameters, producers=producers)
        except ConfigurationError as error:
            raise _refusal(text, _with_names(str(error))) from None
        strategy: Any = built.strategy
        if item.type.endswith(_PRODUCER):
            producers[item.type] = strategy
        is_picker = built.max_num_of_endpoints is not None
        scorer, kept = (None, None) if is_picker else (_as_scorer(strategy, item), _as_filter(strategy, item))
        if scorer is None and item.weight is not None:
            raise _refusal(text, f"{item.type}: is no scorer, so it has no weight")
        if is_picker and rest:
            raise _refusal(text, f"{item.type}: is one picker too many, allowed is 1")
        if is_picker:
            rest = {"picker": strategy, "max_num_of_endpoints": built.max_num_of_endpoints}
        scorers += [scorer] if scorer is not None else []
        filters += [kept] if kept is not None else []
    return SchedulingProfile(name=text, filters=filters, scorers=scorers, **rest)


def _as_scorer(strategy: Any, item: _Item) -> WeightedScorer | None:
    try:
        return WeightedScorer(strategy, 1.0 if item.weight is None else item.weight, name=item.type)
    except ConfigurationError:
        # It has no method of scorers. What is wrong with a weight was told by the scanner.
        return None


def _as_filter(strategy: Any, item: _Item) -> NamedFilter | None:
    try:
        return NamedFilter(strategy, name=item.type)
    except ConfigurationError:
        return None


def _with_names(message: str) -> str:
    """Add the names of profiles to a *message* that tells which strategies there are."""
    if message.startswith("type: "):
        return f"{message}; alone may stand {', '.join(PROFILES)}"
    return message


def _refusal(text: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"profile {text!r}: {reason}")


def _of(text: str) -> ProfileFactory:
    return partial(_build, text, _items(text))


PROFILES: Mapping[str, ProfileFactory] = MappingProxyType(
    {
        "bounded-affinity": _of(
            "2*queue-scorer + 2*kv-cache-utilization-scorer + 3*prefix-cache-scorer(loadFactor=1.5)"
        ),
        "default": default_profile,
        "least-queue": _of("queue-scorer"),
        "least-request": _of("least-request-picker"),
        "power-of-two-choices": _of("queue-scorer + power-of-two-choices-picker"),
        "random": _of("random-picker"),
        "round-robin": _of("round-robin-picker"),
        "session-hash": _of("consistent-hash-picker"),
    }
)
"""What makes the profiles that have a name."""
