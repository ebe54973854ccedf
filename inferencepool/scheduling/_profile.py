"""A scheduling profile: which strategies decide, and with what weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from math import isfinite
from typing import Any

import attrs

from inferencepool.errors import ConfigurationError
from inferencepool.scheduling._max_score import MaxScorePicker
from inferencepool.scheduling._producers import with_producers
from inferencepool.scheduling._protocols import Filter, Picker, Scorer
from inferencepool.scheduling._strategies import check_spelling, kind_of, strategy_name

__all__ = ["MAX_WEIGHT", "NamedFilter", "SchedulingProfile", "WeightedScorer"]

MAX_WEIGHT = 1 << 16
"""Largest sum of weights in a profile; keeps every sum of scores exact (see `inferencepool.scheduling.ONE`)."""

_FILTER_METHODS = ("keep", "narrow", "filter")
_SCORER_METHODS = ("score_endpoints", "score_load", "affinities", "affinities_among", "score")
_PICKER_METHODS = ("choose", "pick")


@attrs.frozen
class WeightedScorer:
    """
    A scorer and how much its score counts.

    Attributes:
        scorer: Any object with one of ``score_endpoints``, ``score_load``, ``affinities``, ``affinities_among`` or
            ``score``.
        weight: Factor on its score, 0 or more. Weights are absolute; they are not normalised.
        name: Name in explanations and errors; by default the class name in kebab case.
        kind: Name of the method that the scorer offers.
        ask: That method.

    Raises:
        ConfigurationError: *scorer* is no scorer, or *weight* is negative or not finite.
    """

    scorer: Scorer
    weight: float = 1.0
    name: str = attrs.field(
        default=attrs.Factory(lambda self: strategy_name(self.scorer), takes_self=True), kw_only=True
    )
    kind: str = attrs.field(init=False, repr=False)
    ask: Callable[..., Any] = attrs.field(init=False, repr=False, eq=False)

    @kind.default
    def _kind(self) -> str:
        return kind_of(self.scorer, _SCORER_METHODS, "scorer")

    @ask.default
    def _ask(self) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self.scorer, self.kind)
        return method

    def __attrs_post_init__(self) -> None:
        weight: Any = self.weight
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not (isfinite(weight) and weight >= 0):
            message = f"scorer {self.name}: weight: {weight!r} is not a finite number of 0 or more"
            raise ConfigurationError(message)


@attrs.frozen
class NamedFilter:
    """
    A filter with the name it has in explanations and errors.

    Attributes:
        filter: Any object with one of ``keep``, ``narrow`` or ``filter``.
        name: By default the class name in kebab case.
        kind: Name of the method that the filter offers.
        ask: That method.
        is_preference: Whether what it leaves out may still be a fallback: the filter's own ``is_preference``. One that
            keeps nothing is then disregarded.

    Raises:
        ConfigurationError: *filter* is no filter.
    """

    filter: Filter
    name: str = attrs.field(
        default=attrs.Factory(lambda self: strategy_name(self.filter), takes_self=True), kw_only=True
    )
    kind: str = attrs.field(init=False, repr=False)
    ask: Callable[..., Any] = attrs.field(init=False, repr=False, eq=False)
    is_preference: bool = attrs.field(init=False, repr=False)

    @is_preference.default
    def _is_preference(self) -> bool:
        return bool(getattr(self.filter, "is_preference", False)) and self.kind != "keep"

    @kind.default
    def _kind(self) -> str:
        return kind_of(self.filter, _FILTER_METHODS, "filter")

    @ask.default
    def _ask(self) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self.filter, self.kind)
        return method


def _to_filters(filters: Iterable[Filter | NamedFilter]) -> tuple[NamedFilter, ...]:
    return tuple(item if isinstance(item, NamedFilter) else NamedFilter(item) for item in filters)


def _to_scorers(scorers: Iterable[Scorer | WeightedScorer]) -> tuple[WeightedScorer, ...]:
    return tuple(item if isinstance(item, WeightedScorer) else WeightedScorer(item) for item in scorers)


@attrs.frozen(kw_only=True, slots=False)
class SchedulingProfile:
    """
    Filter, score, pick: the strategies that decide where a request goes.

    Attributes:
        name: Name in explanations and errors.
        filters: Filters (or `NamedFilter`) in the order in which they are asked.
        scorers: Scorers (weight 1) or `WeightedScorer`; without any, all candidates tie.
        picker: Any object with ``choose`` or ``pick``; by default the highest score wins.
        max_num_of_endpoints: How many endpoints a pick returns at most: the one that gets the request, and fallbacks.
        picker_kind: Name of the method that the picker offers.

    Raises:
        ConfigurationError: A strategy or a producer is a class, offers none of the methods of its role or has a name
            that looks like a misspelt one of those that are looked for, the weights sum up to more than `MAX_WEIGHT`,
            or *max_num_of_endpoints* is below 1.
    """

    name: str = "default"
    filters: tuple[NamedFilter, ...] = attrs.field(default=(), converter=_to_filters)
    scorers: tuple[WeightedScorer, ...] = attrs.field(default=(), converter=_to_scorers)
    picker: Picker = attrs.field(factory=MaxScorePicker)
    max_num_of_endpoints: int = 1
    picker_kind: str = attrs.field(init=False, repr=False)

    @picker_kind.default
    def _picker_kind(self) -> str:
        return kind_of(self.picker, _PICKER_METHODS, "picker")

    def __attrs_post_init__(self) -> None:
        for part in self.parts:
            check_spelling(part)
        total = sum(scorer.weight for scorer in self.scorers)
        if total > MAX_WEIGHT:
            message = f"profile {self.name}: scorers: the weights sum up to {total:g}, allowed are at most {MAX_WEIGHT}"
            raise ConfigurationError(message)
        count: Any = self.max_num_of_endpoints
        if type(count) is not int or count < 1:
            message = f"profile {self.name}: max_num_of_endpoints: {count!r} is not a whole number of 1 or more"
            raise ConfigurationError(message)

    def scorers_of(self, kind: str) -> tuple[WeightedScorer, ...]:
        """Give the scorers that offer the method *kind* and whose weight is not 0."""
        return tuple(scorer for scorer in self.scorers if scorer.kind == kind and scorer.weight)

    def parts_with(self, method: str) -> tuple[Any, ...]:
        """List those strategies and producers that offer *method*, each once; a producer before who names it."""
        return tuple(part for part in self.parts if callable(getattr(part, method, None)))

    @cached_property
    def parts(self) -> tuple[Any, ...]:
        """All strategies and producers, each once; a producer before who names it."""
        strategies = (*(item.filter for item in self.filters), *(item.scorer for item in self.scorers), self.picker)
        return tuple(with_producers(strategies))

    def filters_of(self, kind: str) -> tuple[NamedFilter, ...]:
        """Give the filters that offer the method *kind*."""
        return tuple(item for item in self.filters if item.kind == kind)
