"""The outcome of a pick."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, final

from inferencepool.model import Endpoint, EndpointSet, InferenceRequest, Snapshot
from inferencepool.scheduling._eligibility import SubsetHint
from inferencepool.scheduling._explanation import Explanation

__all__ = ["PickResult"]


_NO_REQUEST = InferenceRequest()
_NO_SNAPSHOT = Snapshot(generation=-1)


class _Owner(Protocol):
    def start(self, result: PickResult, /) -> None: ...

    def release(self, result: PickResult, /) -> None: ...

    def response_headers(self, result: PickResult, /) -> Mapping[str, str]: ...

    def explain(self, result: PickResult, /) -> Explanation: ...


@final
class PickResult:
    """
    Where a request goes. Its load counts until it is released.

    Use it as a context manager, or call `release` when the request has ended, however it ended. Built for every pick,
    so it holds references only and works the rest out when asked. It cannot be copied, in whatever way: its load is
    released once. (So it is no class of attrs, whose `evolve` would copy it.)

    Attributes:
        request: What was asked for.
        snapshot: The snapshot that the pick was made from.
        slot: The endpoint's slot in it.
        subset: The subset hint that was given, if any.
        picked_at: When, in seconds of the scheduler's clock.
        fallback_slots: Slots of the endpoints to try next.
        departed: Endpoints of the snapshot that were gone by then.
        birth: Number of the slot's occupant (see `Fleet.births`).
        moves: How many reservations were made or taken back before.
        amounts: For each measure of the profile, what this pick still adds to the endpoint.
        produced: What strategies found out about the request (see `InferenceRequest.produced`).
        has_started: Whether its response has begun.
        released: Whether its load was taken back.
        seconds: How long the pick took; 0 unless an observer of the picker is told of it.
    """

    __slots__ = (
        "__weakref__",
        "_owner",
        "amounts",
        "birth",
        "departed",
        "fallback_slots",
        "has_started",
        "moves",
        "picked_at",
        "produced",
        "released",
        "request",
        "seconds",
        "slot",
        "snapshot",
        "subset",
    )

    def __init__(
        self,
        owner: _Owner,
        request: InferenceRequest,
        snapshot: Snapshot,
        slot: int,
        subset: SubsetHint | None,
        picked_at: float,
        fallback_slots: tuple[int, ...] = (),
        departed: EndpointSet = 0,
    ) -> None:
        self._owner = owner
        self.request = request
        self.snapshot = snapshot
        self.slot = slot
        self.subset = subset
        self.picked_at = picked_at
        self.fallback_slots = fallback_slots
        self.departed = departed
        self.birth = -1
        self.moves = 0
        self.amounts: tuple[int, ...] = ()
        self.produced: dict[object, Any] | None = None
        self.has_started = False
        self.released = False
        self.seconds = 0.0

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that gets the request."""
        return self.snapshot.fleet.at(self.slot)

    @property
    def destination(self) -> str:
        """The endpoint's address as ``ip:port``, IPv6 in brackets."""
        return self.snapshot.fleet.at(self.slot).destination

    @property
    def fallbacks(self) -> tuple[Endpoint, ...]:
        """Endpoints to try next, best first; nothing is reserved on them."""
        return tuple(map(self.snapshot.fleet.at, self.fallback_slots))

    @property
    def response_headers(self) -> Mapping[str, str]:
        """
        Headers that strategies want the response to the client to have, such as a session token; names in lower case.

        Ask before `detach`.
        """
        return self._owner.response_headers(self)

    def explain(self) -> Explanation:
        """
        Tell what every scorer gave every candidate, in O(endpoints). Asks the strategies again.

        Exact for the last few thousand picks; an explanation asked for later counts pending requests as they are then,
        and says so.
        """
        return self._owner.explain(self)

    def started(self) -> None:
        """
        Tell that the response has begun, which ends the load of prefilling. Only the first call does anything.

        It need not be told: whatever still counts is taken back by `release`.
        """
        self._owner.start(self)

    def release(self) -> None:
        """Take back the load of this pick. Only the first call does anything."""
        self._owner.release(self)

    def detach(self) -> None:
        """
        Let go of the request and of the snapshot, which is worth it for a result that is kept for long.

        The load still counts. Afterwards only `started` and `release` may be called.
        """
        self.request, self.snapshot, self.subset, self.departed = _NO_REQUEST, _NO_SNAPSHOT, None, 0
        self.produced = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner.release(self)

    def __copy__(self) -> NoReturn:
        _refuse_copy()

    def __deepcopy__(self, _: object) -> NoReturn:
        _refuse_copy()

    def __reduce_ex__(self, _: object) -> NoReturn:
        _refuse_copy()

    def __repr__(self) -> str:
        return "<PickResult, detached>" if self.snapshot is _NO_SNAPSHOT else f"<PickResult {self.endpoint}>"


def _refuse_copy() -> NoReturn:
    message = "a PickResult cannot be copied or pickled: its load is released once"
    raise TypeError(message)
