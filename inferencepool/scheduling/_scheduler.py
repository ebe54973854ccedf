"""The pick loop: filter, score, pick, reserve."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from random import Random
from types import FrameType
from typing import Any, final

from inferencepool._lock import new_lock, take
from inferencepool.errors import InferencePoolError, NotCachedError, StrategyError
from inferencepool.model import EndpointSet, InferenceRequest, Outcome, Snapshot
from inferencepool.scheduling._calls import blame_for_recursion, who_calls
from inferencepool.scheduling._choosing import check_choice, check_headers, choose_plainly
from inferencepool.scheduling._eligibility import SubsetHint
from inferencepool.scheduling._explaining import explain
from inferencepool.scheduling._explanation import Explanation
from inferencepool.scheduling._load import Demand
from inferencepool.scheduling._profile import SchedulingProfile
from inferencepool.scheduling._ranked_fleet import RankedFleet
from inferencepool.scheduling._reservations import ReservedLoad
from inferencepool.scheduling._result import Outcomes, PickResult
from inferencepool.scheduling._selecting import Selecting
from inferencepool.scheduling._strategies import LISTENING
from inferencepool.scheduling._terms import Bonuses, bonuses, demand_of, plain_costs
from inferencepool.selection import parse_subset

__all__ = ["Scheduler"]


@final
class Scheduler:
    """
    Decides where requests go, by one profile, and keeps count of what it decided.

    Thread-safe: one lock guards the ranking and the reservations; it is held while the ranking is searched and the pick
    reserved. Producers, plain filters, sparse and plain scorers are asked without it. Set filters with all filters that
    follow them (and then plain scorers), scorers among candidates, fleet scorers (once per snapshot) and pickers are
    asked with it held; one of them that calls the picker gets a `StrategyError`. The snapshot with the highest
    generation seen is the one in use.
    """

    def __init__(
        self,
        profile: SchedulingProfile,
        *,
        rng: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        reserve: bool = True,
        outcomes: Outcomes | None = None,
    ) -> None:
        """
        Schedule by *profile*.

        Args:
            profile: The strategies.
            rng: Source of randomness; give a seeded one for picks that repeat.
            clock: Seconds; the clock that snapshots tell observation times by.
            reserve: Whether a pick counts as load until it is released.
            outcomes: Is told what becomes of requests, and picks again for those that failed.
        """
        picker: Any = profile.picker
        self._profile = profile
        self._rng = rng if rng is not None else Random()  # spreading load needs no secrecy
        self._clock = clock
        self._reserve = reserve
        self._outcomes = outcomes
        self._end = outcomes.end if outcomes is not None else None
        self._sparse = profile.scorers_of("affinities")
        self._among = profile.scorers_of("affinities_among")
        self._plain = profile.scorers_of("score")
        self._measures = profile.parts_with("amounts")
        self._until_started = [bool(getattr(measure, "until_started", False)) for measure in self._measures]
        self._produce = [part.produce for part in profile.parts_with("produce")]
        self._choose = partial(choose_plainly, profile) if profile.picker_kind == "pick" else picker.choose
        self._prepare, self._has_cached, self._picked, self._started, self._released, self._headers = (
            [getattr(part, event) for part in profile.parts_with(event)] for event in LISTENING
        )
        self._lock = new_lock()
        self._fleet = RankedFleet(profile, self._rng)
        self._selecting = Selecting(profile, self._fleet)
        self._late = self._selecting.late
        # Those that another endpoint is being picked for; what else is said of them comes too late.
        self._retried: set[PickResult] = set()

    @property
    def profile(self) -> SchedulingProfile:
        """The profile it schedules by."""
        return self._profile

    @property
    def in_flight(self) -> int:
        """How many picks were not released yet."""
        return self._fleet.reservations.total_in_flight

    def schedule(
        self,
        request: InferenceRequest,
        snapshot: Snapshot,
        *,
        departed: EndpointSet = 0,
        subset: SubsetHint | None = None,
        excluded: tuple[str, ...] = (),
        instead_of: PickResult | None = None,
    ) -> PickResult:
        """
        Decide where *request* goes and reserve its load.

        Costs O(log endpoints) set operations where all strategies are fleet-only or sparse, O(candidates) otherwise.

        Args:
            request: The request.
            snapshot: The fleet.
            departed: Endpoints of *snapshot* that are gone already.
            subset: Pick only from these addresses (see `inferencepool.selection.narrow`); None for no limit.
            excluded: Ids of endpoints that are no candidates.
            instead_of: A result whose load is taken back in the same step.

        Raises:
            NoEndpointsError: There is no endpoint, or none that *subset* names.
            EndpointsFilteredError: The filters kept none.
            NotCachedError: *request* is to be refused where nothing of its prompt is cached, and nothing is.
            StrategyError: A strategy broke its contract.
        """
        lock, fleet = self._lock, self._fleet
        # It is looked at again, by explanations too: what it says must not change, and may be readable only once.
        subset = subset if subset is None or isinstance(subset, str) else parse_subset(subset)
        while True:
            if snapshot.generation > fleet.snapshot.generation:
                self.adopt(snapshot)
            request.produced = {}
            for produce in self._produce:
                produce(request, snapshot)
            part = self._selecting.members_for(request, snapshot, departed, subset, excluded)
            extra = bonuses(self._sparse, request, snapshot) if self._sparse else []
            demands = [demand_of(item, request, snapshot) for item in self._measures] if self._measures else ()
            plain: Sequence[float] = ()
            if self._plain and not self._late:
                plain = plain_costs(self._plain, request, self._selecting.candidates(snapshot, part))
            if not lock.acquire(False):
                self._take()
            try:
                if snapshot is fleet.snapshot:
                    if departed:
                        fleet.depart(departed)
                    if part & fleet.reservations.shown:
                        result = self._decide(request, part, extra, demands, plain, subset, excluded, instead_of)
                        break
                # A newer snapshot came, or the last candidate went: ask again about the fleet as it is.
                snapshot, departed = fleet.snapshot, fleet.departed
            finally:
                lock.release()
        if self._picked or request.if_available:
            self._tell(result)
        return result

    def start(self, result: PickResult) -> None:
        """Take back what ends when the response to *result* begins. Only the first call does anything."""
        if result.has_started:
            return
        lock = self._lock
        if not lock.acquire(False):
            self._take()
        try:
            first = not result.released and not result.has_started
            result.has_started = True
            if first and self._reserve:
                self._fleet.reservations.start(result, self._until_started)
        finally:
            lock.release()
        if first:
            if self._outcomes is not None:
                self._outcomes.hear(result)
            for tell in self._started:
                tell(result)

    def response_headers(self, result: PickResult) -> Mapping[str, str]:
        """
        Ask the strategies which headers the response to *result* is to have.

        Raises:
            StrategyError: One gave something else than texts by name.
        """
        headers: dict[str, str] = {}
        for ask in self._headers:
            headers.update(check_headers(self._profile.name, ask, ask(result)))
        return headers

    def release(self, result: PickResult, outcome: Outcome | None = None) -> None:
        """Take back the load of *result*, of which *outcome* came. Only the first call does anything."""
        lock = self._lock
        if not lock.acquire(False):
            self._take()
        try:
            first = not (self._retried and result in self._retried) and self._take_back(result)
        finally:
            lock.release()
        if first:
            if outcome is not None and self._end is not None:
                self._end(result, outcome)
            for tell in self._released:
                tell(result)

    def retry(self, result: PickResult, outcome: Outcome) -> PickResult:
        """
        Pick again for *result*, of which *outcome* came: an endpoint that was not tried.

        Raises:
            NoEndpointsError: None is left.
            InferencePoolError: It is over, or nobody knows what was asked for.
        """
        with self._held():
            is_allowed = not (result.released or result.is_detached or result in self._retried)
            if is_allowed and self._outcomes is not None:
                self._retried.add(result)
        if not is_allowed or self._outcomes is None:
            message = f"retry: {result!r}: it is over, or was let go of; allowed is a result that is in flight"
            raise InferencePoolError(message)
        self._outcomes.end(result, outcome)
        try:
            return self._outcomes.pick_again(result)
        finally:
            with self._held():
                self._retried.discard(result)
                # Where another one was picked, that was done in the same step.
                self._take_back(result)
            for tell in self._released:
                tell(result)

    def pass_on(self, result: PickResult, failed: Iterable[tuple[int, int]], served: tuple[int, int]) -> None:
        """Tell that those *failed*, slots with their occupants' numbers; let *result* be that of *served*."""
        if self._outcomes is not None and not (result.released or result.has_started):
            for slot, birth in failed:
                self._outcomes.fail(slot, birth, result.picked_at, result.model)
        with self._held():
            is_open = not (result.released or result.has_started)
            if self._reserve and is_open and served[0] != result.slot:
                self._fleet.reservations.move(result, *served, self._clock())

    def _take_back(self, result: PickResult) -> bool:
        """Take back the load of *result*; False if that was done. The lock is held."""
        first = not result.released
        if first:
            result.released = True
            if self._reserve:
                self._fleet.reservations.release(result)
        return first

    def explain(self, result: PickResult) -> Explanation:
        """Tell what every scorer gave every candidate of *result*, in O(endpoints)."""
        with self._held():
            then, exact = self._fleet.reservations.at(result.moves)
        return explain(self._profile, result, then, exact=exact)

    def awaited(self) -> tuple[Sequence[int], Sequence[int]]:
        """Give the births of slots, and by slot the picks that nothing came back for, in O(endpoints)."""
        return self._fleet.reservations.awaited()

    def reserved(self) -> ReservedLoad:
        """Tell the load that picks put on each endpoint of the snapshot in use, in O(endpoints)."""
        with self._held():
            reservations = self._fleet.reservations
            return ReservedLoad(self._fleet.snapshot.fleet, reservations.pending[:], reservations.in_flight[:])

    def adopt(self, snapshot: Snapshot) -> None:
        """
        Rank *snapshot*, if it is newer than the one in use. A pick does that by itself.

        Raises:
            StrategyError: A strategy broke its contract; nothing has changed then.
        """
        if snapshot.generation > self._fleet.snapshot.generation:
            for prepare in self._prepare:
                prepare(snapshot)
        with self._held():
            self._fleet.adopt(snapshot)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the lock; for what is not done for every pick."""
        self._take()
        try:
            yield
        finally:
            self._lock.release()

    def _take(self) -> None:
        """Acquire the lock. Where this thread holds it, a strategy calls the picker, which is a `StrategyError`."""
        if not self._lock.acquire(False):
            name = who_calls(self._profile, self._holds)
            if name:
                message = f"profile {self._profile.name}: {name}: calls the picker while it is being asked"
                raise StrategyError(message)
            take(self._lock)

    def blame_for_recursion(self, picker: object) -> None:
        """Raise a `StrategyError` that names who picks for every pick, where calls of ``picker.pick`` are nested."""
        blame_for_recursion(self._profile, picker)

    def _holds(self, frame: FrameType) -> bool:
        """Tell whether *frame* runs with the lock held and asks strategies."""
        if frame.f_code is _DECIDING:
            return frame.f_locals["self"] is self
        return frame.f_code is _RANKING and frame.f_locals["self"] is self._fleet

    def _tell(self, result: PickResult) -> None:
        """
        Tell the listeners of a pick; one that nobody gets, because a listener failed, counts no load.

        Nor does one of a request that wants to be refused where nothing of it is cached; no listener hears of that.
        """
        try:
            if result.request.if_available and not any(has_cached(result) for has_cached in self._has_cached):
                raise NotCachedError(_NOT_CACHED)  # noqa: TRY301 - released below
            for tell in self._picked:
                tell(result)
        except BaseException:
            self.release(result)
            raise

    def _decide(
        self,
        request: InferenceRequest,
        part: EndpointSet,
        extra: Bonuses,
        demands: Sequence[Demand],
        plain: Sequence[float],
        subset: SubsetHint | None,
        excluded: tuple[str, ...],
        instead_of: PickResult | None,
    ) -> PickResult:
        """Pick from *part*, of which at least one is shown, and reserve. The lock is held."""
        fleet, count, wide = self._fleet, self._profile.max_num_of_endpoints, part
        snapshot = fleet.snapshot
        if self._late:
            part, wide = self._selecting.narrow_late(request, part)
            if self._plain:
                plain = plain_costs(self._plain, request, self._selecting.candidates(snapshot, part))
        members = part & fleet.reservations.shown
        probed = 0
        if snapshot.probing:
            probed = self._probe(members, request.model)
            members = probed or fleet.without_probed(members, request.model)
        given = extra
        if self._among:
            fleet.candidates.members = members
            given = bonuses(self._among, request, fleet.candidates) + extra
        standing = fleet.standing(part, members, given, demands, plain)
        slots = self._choose(request, standing, 1 if probed else count)
        try:
            slot: Any = slots[0]
            is_one = type(slots) is list and len(slots) == 1 and type(slot) is int and members >> slot & 1
        except Exception:  # noqa: BLE001 - whatever it is, it is no choice
            is_one = False
        if not is_one:
            slot = check_choice(self._profile.name, slots, members, count)
        fallbacks: tuple[int, ...] = ()
        if count > 1:
            fallbacks = self._selecting.fallbacks(request, slots, part, wide, probed, extra, demands)
        now, departed = self._clock(), fleet.departed
        result = PickResult(self, request, snapshot, slot, subset, now, fallbacks, departed, excluded, request.produced)
        if self._reserve:
            fleet.reservations.reserve(result, tuple([demand.at(slot) for demand in demands]) if demands else ())
        else:
            result.birth, result.moves = snapshot.fleet.births[result.slot], fleet.reservations.moves
        if instead_of is not None:
            self._take_back(instead_of)
        return result

    def _probe(self, members: EndpointSet, model: str) -> EndpointSet:
        """Give the one of *members* that a request for *model* probes; 0 for none."""
        births = self._fleet.snapshot.fleet.births
        for slot in self._fleet.to_probe(members, model):
            if self._outcomes is None or self._outcomes.probe(slot, births[slot], self._clock(), model):
                return 1 << slot
        return 0


# The reference's text.
_NOT_CACHED = "no decode worker has the requested KV cache"

# Whoever runs these holds the lock.
_DECIDING = Scheduler._decide.__code__  # noqa: SLF001 - its own
_RANKING = RankedFleet.adopt.__code__
