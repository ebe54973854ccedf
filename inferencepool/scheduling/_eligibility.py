"""Which endpoints a request may go to at all: endpoint filters once per fleet, the rest per request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, final

from cachetools import LRUCache

from inferencepool._lock import new_lock, take
from inferencepool.errors import EndpointsFilteredError, NoEndpointsError, StrategyError
from inferencepool.model import (
    Candidate,
    Candidates,
    Endpoint,
    EndpointSet,
    Fleet,
    InferenceRequest,
    Snapshot,
    to_endpoint_set,
)
from inferencepool.scheduling._profile import NamedFilter, SchedulingProfile
from inferencepool.scheduling._strategies import quoted
from inferencepool.selection import narrow

__all__ = ["Eligibility", "SubsetHint", "apply_filter", "excluded_set", "without_avoided", "without_excluded"]

SubsetHint: TypeAlias = str | Iterable[str]

# Subset hints that are remembered; gateways send the same few again and again.
_HINTS = 256


@final
class Eligibility:
    """
    The endpoints of *fleet* that the endpoint filters of *profile* keep, and subset hints resolved against it.

    Thread-safe: built whole, and the cache of hints has its own lock.

    Attributes:
        fleet: The fleet.
        members: The endpoints that all endpoint filters keep.
    """

    def __init__(self, profile: SchedulingProfile, fleet: Fleet) -> None:
        """Ask the endpoint filters about every endpoint, in O(endpoints * filters)."""
        self.fleet = fleet
        self.members: EndpointSet = fleet.members
        self._profile = profile
        for item in profile.filters_of("keep"):
            self.members &= kept_by(item, fleet)
        self._hints: LRUCache[object, EndpointSet] = LRUCache(_HINTS)
        self._lock = new_lock()

    def narrow(self, hint: SubsetHint) -> EndpointSet:
        """Give the endpoints of the fleet that a subset *hint* names, filtered or not."""
        key = hint if isinstance(hint, str) else tuple(hint)
        take(self._lock)
        try:
            found = self._hints.get(key)
            if found is None:
                found = self._hints[key] = narrow(self.fleet, key)
        finally:
            self._lock.release()
        return found

    def members_for(self, departed: EndpointSet, subset: SubsetHint | None) -> EndpointSet:
        """
        Give the endpoints that filters keep and *subset* names; at least one of them did not depart.

        Raises:
            NoEndpointsError: The fleet is empty, or *subset* names none of it.
            EndpointsFilteredError: The endpoint filters kept none.
        """
        part = self.members
        if subset is not None:
            named = self.narrow(subset)
            if not named & ~departed:
                shown = subset if isinstance(subset, str) else list(subset)
                message = f"the subset {shown!r} names none of the {len(self.fleet)} ready endpoints"
                raise NoEndpointsError(message)
            part &= named
        if part & ~departed:
            return part
        if not self.fleet.members & ~departed:
            message = "there are no ready endpoints"
            raise NoEndpointsError(message)
        raise filtered_out(self._profile, [item.name for item in self._profile.filters_of("keep")])


def kept_by(item: NamedFilter, fleet: Fleet) -> EndpointSet:
    """
    Ask an endpoint filter about every endpoint of *fleet*.

    Raises:
        StrategyError: It gave something else than True or False.
    """
    return to_endpoint_set(slot for slot in fleet.slots if _keeps(item, fleet.at(slot)))


def _keeps(item: NamedFilter, endpoint: Endpoint) -> bool:
    kept: Any = item.ask(endpoint)
    if type(kept) is not bool:
        message = f"filter {item.name}: gave {quoted(kept)} for {endpoint}, not True or False"
        raise StrategyError(message)
    return kept


def apply_filter(item: NamedFilter, request: InferenceRequest, candidates: Candidates) -> EndpointSet:
    """
    Ask a plain filter.

    Raises:
        StrategyError: It gave something that is no candidate.
    """
    return to_endpoint_set(_slots_kept(item, item.ask(request, candidates), set(candidates.slots)))


def _slots_kept(item: NamedFilter, kept: Iterable[object], allowed: set[int]) -> Iterator[int]:
    try:
        for candidate in kept:
            if not isinstance(candidate, Candidate) or candidate.slot not in allowed:
                raise _stranger(item, candidate)  # noqa: TRY301 - a generator has no inner function for it
            yield candidate.slot
    except StrategyError:
        raise
    except Exception as error:
        message = f"filter {item.name}: gave {quoted(kept)}, not a list of candidates"
        raise StrategyError(message) from error


def _stranger(item: NamedFilter, candidate: object) -> StrategyError:
    message = f"filter {item.name}: gave {quoted(candidate)}, which is none of the candidates it was asked about"
    return StrategyError(message)


def without_avoided(part: EndpointSet, snapshot: Snapshot, departed: EndpointSet, model: str) -> EndpointSet:
    """
    Leave out the endpoints that are to be avoided for *model*, if others are left that did not depart.

    If not, leave out the worst of them: those that fail or do not have the model; or those that fail.
    """
    rest = part & ~snapshot.avoided_for(model)
    # One request goes to those that are to be probed, and the others must go elsewhere.
    due = snapshot.probing_for(model) if snapshot.probing else 0
    if rest & ~due & ~departed:
        return rest
    for worst in (snapshot.failing | snapshot.avoided_by_model.get(model, 0), snapshot.failing):
        others = part & ~worst
        if others & ~due & ~departed:
            return others | rest
    return part


def without_excluded(
    part: EndpointSet, snapshot: Snapshot, departed: EndpointSet, excluded: tuple[str, ...]
) -> EndpointSet:
    """
    Leave out the endpoints with the ids *excluded*; others are unknown or gone.

    Raises:
        NoEndpointsError: No other is left.
    """
    rest = part & ~excluded_set(snapshot.fleet, excluded)
    if not rest & ~departed:
        message = f"all {(part & ~departed).bit_count()} endpoints for the request are excluded"
        raise NoEndpointsError(message)
    return rest


def excluded_set(fleet: Fleet, excluded: Iterable[str]) -> EndpointSet:
    """Give the endpoints of *fleet* with the ids *excluded*."""
    return to_endpoint_set(slot for each in excluded if (slot := fleet.by_id.get(each)) is not None)


def filtered_out(profile: SchedulingProfile, names: Iterable[str]) -> EndpointsFilteredError:
    """Build the error for filters that kept nothing."""
    return EndpointsFilteredError(f"profile {profile.name}: no endpoint left by the filters {', '.join(names)}")
