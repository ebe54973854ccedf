"""Filters that look at the request: which of the endpoints that it may go to at all are its candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import attrs

from inferencepool.errors import EndpointsFilteredError, StrategyError
from inferencepool.model import Candidates, EndpointSet, InferenceRequest
from inferencepool.scheduling._eligibility import apply_filter, filtered_out
from inferencepool.scheduling._profile import NamedFilter, SchedulingProfile
from inferencepool.scheduling._standing import ReservedCandidates
from inferencepool.scheduling._strategies import quoted

__all__ = ["Narrowing", "early_and_late"]


def early_and_late(profile: SchedulingProfile) -> tuple[tuple[NamedFilter, ...], tuple[NamedFilter, ...]]:
    """
    Divide those filters of *profile* that look at the request, in its order.

    Returns:
        The plain filters before all others, which are asked without the lock; then the first set filter or preference
        and all that follow it, which are asked with the lock held.
    """
    items = [item for item in profile.filters if item.kind != "keep"]
    first = 0
    while first < len(items) and items[first].kind == "filter" and not items[first].is_preference:
        first += 1
    return tuple(items[:first]), tuple(items[first:])


@attrs.define(eq=False)
class Narrowing:
    """
    The candidates of one request, filter by filter.

    Attributes:
        part: The candidates. Endpoints that departed are among them until a filter leaves out anything.
        wide: What they would be without preferences: those that may be fallbacks. The same object where equal.
        steps: For each filter that left out something: the filter, and what it left out of *part*.
    """

    part: EndpointSet
    wide: EndpointSet
    steps: list[tuple[NamedFilter, EndpointSet]] = attrs.field(factory=list)

    @classmethod
    def of(cls, part: EndpointSet) -> Narrowing:
        """Start with *part* as candidates."""
        return cls(part, part)

    def apply(
        self,
        items: Iterable[NamedFilter],
        request: InferenceRequest,
        hidden: EndpointSet,
        asked: ReservedCandidates,
        listed: Callable[[EndpointSet], Candidates],
    ) -> None:
        """
        Ask filters, one after the other, until no candidate is left.

        Args:
            items: The filters.
            request: The request.
            hidden: Endpoints that departed; filters do not see them.
            asked: What set filters are shown; its members are set here.
            listed: Lists what plain filters are shown.

        Raises:
            StrategyError: A filter broke its contract.
        """
        ask = partial(_ask, request, asked, listed)
        rules: list[tuple[NamedFilter, EndpointSet]] = []
        for item in items:
            members, is_same = self.part & ~hidden, self.wide is self.part
            kept = ask(item, members)
            if item.is_preference:
                if kept:
                    self._leave_out(item, members, kept)
                continue
            # A rule holds for fallbacks too.
            others = members if is_same else self.wide & ~hidden
            allowed = kept if is_same else ask(item, others)
            rules.append((item, others & ~allowed))
            self._leave_out(item, members, kept)
            if is_same:
                self.wide = self.part
            elif allowed != others:
                self.wide = allowed
            if members and not kept:
                if is_same or not allowed:
                    break
                # Preferences are wishes: they yield where a rule leaves nothing of what they kept.
                self.part = self.wide
                self.steps = [(rule, left_out) for rule, left_out in rules if left_out]

    def _leave_out(self, item: NamedFilter, members: EndpointSet, kept: EndpointSet) -> None:
        if kept != members:
            self.steps.append((item, members & ~kept))
            self.part = kept

    def nothing_left(self, profile: SchedulingProfile) -> EndpointsFilteredError:
        """Build the error for a request that is left without candidates."""
        return filtered_out(profile, [item.name for item, _ in self.steps[-1:]])


def _ask(
    request: InferenceRequest,
    asked: ReservedCandidates,
    listed: Callable[[EndpointSet], Candidates],
    item: NamedFilter,
    members: EndpointSet,
) -> EndpointSet:
    """Ask one filter of any kind which of *members* it keeps."""
    if item.kind == "filter":
        return apply_filter(item, request, listed(members))
    asked.members = members
    kept: Any = item.ask(request, asked)
    if type(kept) is not int or kept < 0:
        message = f"filter {item.name}: gave {quoted(kept)}, not an EndpointSet"
        raise StrategyError(message)
    return kept & members
