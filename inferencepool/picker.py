"""`EndpointPicker`: the registry and the scheduler joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import compress
from random import Random
from typing import Final, Protocol, final
from weakref import ref

import attrs

from inferencepool.errors import InferencePoolError, NoEndpointsError
from inferencepool.model import Endpoint, EndpointSet, InferenceRequest, Outcome, OutcomeKind, Snapshot
from inferencepool.plugins import default_profile
from inferencepool.registry import EndpointRegistry
from inferencepool.scheduling import PickResult, ReservedLoad, Scheduler, SchedulingProfile, SubsetHint

__all__ = ["EndpointPicker", "Observer", "Observers", "PickerStatistics"]


_PASSED_ON: Final = Outcome(OutcomeKind.GATEWAY_FAILURE, None, "sent on by the proxy")


class Observer(Protocol):
    """
    **Protocol:** is told about every pick; called by the thread that picks, without any lock.

    One that keeps no result beyond the call may say so with an attribute ``keeps_results = False``. Then ext_proc
    sessions let go of a request's prompt while its response runs.
    """

    def picked(self, result: PickResult, /) -> object:
        """Hear of a request that got an endpoint; `PickResult.seconds` tells how long that took."""
        ...

    def refused(self, request: InferenceRequest, error: InferencePoolError, /) -> object:
        """Hear of a request that got none."""
        ...


@final
class Observers:
    """
    Several observers in one: tells each of them, in the order given.

    Attributes:
        keeps_results: Whether one of them may keep results.
    """

    def __init__(self, *observers: Observer) -> None:
        """Tell *observers*."""
        self._picked = [observer.picked for observer in observers]
        self._refused = [observer.refused for observer in observers]
        self.keeps_results = any(map(_keeps_results, observers))

    def picked(self, result: PickResult, /) -> None:
        """Tell of a request that got an endpoint."""
        for tell in self._picked:
            tell(result)

    def refused(self, request: InferenceRequest, error: InferencePoolError, /) -> None:
        """Tell of a request that got none."""
        for tell in self._refused:
            tell(request, error)


def _keeps_results(observer: Observer) -> bool:
    return bool(getattr(observer, "keeps_results", True))


@attrs.frozen
class PickerStatistics:
    """
    What a picker has going.

    Attributes:
        endpoints: Endpoints that may be picked.
        in_flight: Picks that were not released yet.
        generation: Generation of the registry's latest snapshot.
    """

    endpoints: int
    in_flight: int
    generation: int


@final
class EndpointPicker:
    """
    Picks an endpoint of a pool for every request. The one object that a gateway needs beside the registry.

    Thread-safe; the state is the registry's and the scheduler's, each guarded by a lock of its own. It tells the
    registry's `EndpointHealth` what becomes of requests.
    """

    def __init__(
        self,
        registry: EndpointRegistry,
        *,
        profile: SchedulingProfile | None = None,
        rng: Random | None = None,
        clock: Callable[[], float] | None = None,
        observer: Observer | None = None,
        reserve: bool = True,
    ) -> None:
        """
        Pick from the endpoints of *registry*.

        Args:
            registry: What exists.
            profile: How to choose; by default cached prefixes, short queues and free KV caches win, with weights 3, 2
                and 2.
            rng: Source of randomness; give a seeded one for picks that repeat.
            clock: Seconds; by default the registry's clock, by which metrics tell when they were observed.
            observer: Is told about every pick.
            reserve: Whether a pick counts as load until it is released.
        """
        self._registry = registry
        self._observer = observer
        self._observed = observer is not None and _keeps_results(observer)
        self._clock = clock if clock is not None else registry.clock
        self._scheduler = Scheduler(
            profile if profile is not None else default_profile(),
            rng=rng,
            clock=self._clock,
            reserve=reserve,
            outcomes=_Afterwards(self),
        )
        self._health = registry.health
        self._health.watch(self._scheduler)

    @property
    def registry(self) -> EndpointRegistry:
        """The registry that it picks from."""
        return self._registry

    @property
    def profile(self) -> SchedulingProfile:
        """The profile that it picks by."""
        return self._scheduler.profile

    @property
    def observed(self) -> bool:
        """Whether an observer is told about every pick, and may keep the result."""
        return self._observed

    def pick(
        self,
        request: InferenceRequest,
        subset: SubsetHint | None = None,
        exclude: str | Endpoint | Iterable[str | Endpoint] = (),
    ) -> PickResult:
        """
        Pick an endpoint for *request*, and count its load until the result is released.

        Args:
            request: What is asked for.
            subset: Addresses to pick from, as a list or with commas between: ``ip:port``, or ``ip`` for all ports of
                that pod. None for no limit; an empty one leaves nothing to pick from.
            exclude: Endpoints, or their ids, that are not to be picked, or a single one, such as those that failed the
                request already (`PickResult.retry` does that by itself). Those that do not exist are passed over.

        Raises:
            NoEndpointsError: There is no endpoint, or none that *subset* names and *exclude* leaves (503).
            EndpointsFilteredError: The profile's filters kept none (429).
            NotCachedError: *request* is to be refused where nothing of its prompt is cached, and nothing is (412).
            StrategyError: A strategy broke its contract (500).
        """
        if exclude or self._observer is not None:
            return self._pick(request, subset, _ids_of(exclude))
        # The same as `_pick`, and most picks: a call less.
        try:
            snapshot, departed = self._registry.current()
            return self._scheduler.schedule(request, snapshot, departed=departed, subset=subset)
        except (NoEndpointsError, RecursionError) as error:
            self._give_reason(error)
            raise

    def _pick(
        self,
        request: InferenceRequest,
        subset: SubsetHint | None,
        excluded: tuple[str, ...],
        instead_of: PickResult | None = None,
    ) -> PickResult:
        try:
            snapshot, departed = self._registry.current()
            if self._observer is None:
                return self._scheduler.schedule(
                    request, snapshot, departed=departed, subset=subset, excluded=excluded, instead_of=instead_of
                )
            return self._pick_observed(self._observer, request, snapshot, departed, subset, excluded, instead_of)
        except (NoEndpointsError, RecursionError) as error:
            self._give_reason(error)
            raise

    def _give_reason(self, error: NoEndpointsError | RecursionError) -> None:
        """Raise an error that tells more than *error* does, if there is more to tell."""
        if isinstance(error, RecursionError):
            self._scheduler.blame_for_recursion(self)
        elif absence := self._registry.absence:
            message = f"{error}: {absence}"
            raise NoEndpointsError(message) from None

    def _pick_observed(
        self,
        observer: Observer,
        request: InferenceRequest,
        snapshot: Snapshot,
        departed: EndpointSet,
        subset: SubsetHint | None,
        excluded: tuple[str, ...],
        instead_of: PickResult | None,
    ) -> PickResult:
        began = self._clock()
        try:
            result = self._scheduler.schedule(
                request, snapshot, departed=departed, subset=subset, excluded=excluded, instead_of=instead_of
            )
        except InferencePoolError as error:
            observer.refused(request, error)
            raise
        result.seconds = self._clock() - began
        try:
            observer.picked(result)
        except BaseException:
            # Nobody gets the result, so nobody could release it.
            result.cancelled()
            raise
        return result

    def reserved(self) -> ReservedLoad:
        """Tell the load that picks put on each endpoint, in O(endpoints)."""
        return self._scheduler.reserved()

    def endpoints_in_flight(self) -> tuple[Endpoint, ...]:
        """List the endpoints with picks that were not released yet, in O(endpoints)."""
        reserved = self.reserved()
        return tuple(filter(None, compress(reserved.fleet.endpoints, reserved.in_flight)))

    def statistics(self) -> PickerStatistics:
        """Tell what the picker has going."""
        registry = self._registry.statistics()
        return PickerStatistics(registry.endpoints, self._scheduler.in_flight, registry.generation)

    def __repr__(self) -> str:
        return f"<EndpointPicker by profile {self.profile.name} of {self._registry!r}>"


@final
class _Afterwards:
    """What becomes of the results of a picker. Results keep it, so it does not keep the picker."""

    def __init__(self, picker: EndpointPicker) -> None:
        self._health = picker.registry.health
        self._picker = ref(picker)

    def hear(self, result: PickResult) -> None:
        self._health.hear(result.slot, result.birth, result.picked_at, result.model)

    def end(self, result: PickResult, outcome: Outcome) -> None:
        self._health.report(result.slot, result.birth, outcome, result.picked_at, result.model)

    def fail(self, slot: int, birth: int, picked_at: float, model: str) -> None:
        self._health.report(slot, birth, _PASSED_ON, picked_at, model)

    def probe(self, slot: int, birth: int, picked_at: float, model: str) -> bool:
        return self._health.probe(slot, birth, picked_at, model)

    def pick_again(self, result: PickResult) -> PickResult:
        picker = self._picker()
        if picker is None:
            message = "retry: the picker is gone"
            raise InferencePoolError(message)
        return picker._pick(result.request, result.subset, (*result.excluded, result.endpoint.id), result)  # noqa: SLF001 - its own


def _ids_of(endpoints: str | Endpoint | Iterable[str | Endpoint]) -> tuple[str, ...]:
    if isinstance(endpoints, str | Endpoint):
        endpoints = (endpoints,)
    return tuple(each if isinstance(each, str) else each.id for each in endpoints)
