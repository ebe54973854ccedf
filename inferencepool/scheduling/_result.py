"""The outcome of a pick."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, TypeVar, final, overload

from inferencepool.errors import ConfigurationError
from inferencepool.model import Endpoint, EndpointSet, InferenceRequest, Outcome, Snapshot
from inferencepool.model._outcome import SUCCESS
from inferencepool.scheduling._eligibility import SubsetHint
from inferencepool.scheduling._explanation import Explanation
from inferencepool.scheduling._streaming import streamed, streamed_async

__all__ = ["Outcomes", "PickResult"]


_T = TypeVar("_T")

_NO_REQUEST = InferenceRequest()
_NO_SNAPSHOT = Snapshot(generation=-1)


class _Owner(Protocol):
    def start(self, result: PickResult, /) -> None: ...

    def release(self, result: PickResult, outcome: Outcome | None, /) -> None: ...

    def retry(self, result: PickResult, outcome: Outcome, /) -> PickResult: ...

    def pass_on(self, result: PickResult, failed: Iterable[tuple[int, int]], served: tuple[int, int], /) -> None: ...

    def response_headers(self, result: PickResult, /) -> Mapping[str, str]: ...

    def explain(self, result: PickResult, /) -> Explanation: ...


class Outcomes(Protocol):
    """**Protocol:** is told what becomes of requests; without any lock of the scheduler unless that is said."""

    def hear(self, result: PickResult, /) -> None:
        """Hear that the response begins."""
        ...

    def end(self, result: PickResult, outcome: Outcome, /) -> None:
        """Hear what became of the request."""
        ...

    def fail(self, slot: int, birth: int, picked_at: float, model: str, /) -> None:
        """Hear that an endpoint failed a request that a proxy then sent to another one."""
        ...

    def probe(self, slot: int, birth: int, picked_at: float, model: str, /) -> bool:
        """Hear that a request is to probe an ejected endpoint; False if another one does. The lock is held."""
        ...

    def pick_again(self, result: PickResult, /) -> PickResult:
        """Pick another endpoint for the request, and move the load."""
        ...


@final
class PickResult:
    """
    Where a request goes. Its load counts until it is released.

    Use it as a context manager, or say how the request ended: `succeeded` or `release`, `failed`, `retry`, `cancelled`.
    The first of them counts, and takes the load back; what it tells is how endpoints are known to be ill. A context
    that is left by an exception is `cancelled`, as nobody knows whose fault it is.

    Built for every pick, so it holds references only and works the rest out when asked. It cannot be copied, in
    whatever way: its load is released once. (So it is no class of attrs, whose `evolve` would copy it.)

    Attributes:
        request: What was asked for.
        snapshot: The snapshot that the pick was made from.
        slot: The endpoint's slot in it.
        subset: The subset hint that was given, if any.
        excluded: Ids of the endpoints that it was not to go to.
        picked_at: When, in seconds of the scheduler's clock.
        fallback_slots: Slots of the endpoints to try next.
        fallback_births: Numbers of their occupants, once the snapshot was let go of.
        departed: Endpoints of the snapshot that were gone by then.
        birth: Number of the slot's occupant (see `Fleet.births`).
        moves: How many reservations were made or taken back before.
        amounts: For each measure of the profile, what this pick still adds to the endpoint.
        produced: What strategies found out about the request (see `InferenceRequest.produced`).
        model: The model that was asked for.
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
        "excluded",
        "fallback_births",
        "fallback_slots",
        "has_started",
        "model",
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

    # Whoever counts the load sets them.
    birth: int
    moves: int

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
        excluded: tuple[str, ...] = (),
        produced: dict[object, Any] | None = None,
    ) -> None:
        self._owner = owner
        self.request = request
        self.snapshot = snapshot
        self.slot = slot
        self.subset = subset
        self.picked_at = picked_at
        self.fallback_slots = fallback_slots
        self.fallback_births: tuple[int, ...] = ()
        self.departed = departed
        self.excluded = excluded
        self.model = request.model
        self.amounts: tuple[int, ...] = ()
        self.produced = produced
        self.has_started = False
        self.released = False
        self.seconds = 0.0

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that gets the request."""
        return self.snapshot.fleet.at(self.slot)

    @property
    def is_detached(self) -> bool:
        """Whether the request and the snapshot were let go of."""
        return self.snapshot is _NO_SNAPSHOT

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
        Tell that the response has begun, and well: the load of prefilling ends. Only the first call does anything.

        It need not be told: whatever still counts is taken back by `release`. An endpoint that is known to give
        something back is not taken for stalled.
        """
        self._owner.start(self)

    def release(self) -> None:
        """Take back the load of this pick, which went well. Only the first call does anything."""
        self._owner.release(self, SUCCESS)

    def succeeded(self) -> None:
        """Tell that the request went well; the same as `release`."""
        self._owner.release(self, SUCCESS)

    def failed(self, reason: str | int = "failed", *, retry_after: float | str | None = None) -> None:
        """
        Tell that the endpoint failed the request, and take the load back. Only the first call does anything.

        Args:
            reason: The status of the response, 400 to 599; or in a few words why there is none, such as
                ``connect-failure``, ``reset`` or ``timeout``. What a status says of the endpoint, `OutcomeKind` tells.
            retry_after: Seconds that the response asks to wait, or the text of its header ``Retry-After``; a date is
                passed over.

        Raises:
            ConfigurationError: *reason* is neither; nothing was done.
        """
        self._owner.release(self, Outcome.of_reason(reason, retry_after=retry_after))

    def cancelled(self) -> None:
        """Take the load back of a request of which nothing is known: its client left before the answer came."""
        self._owner.release(self, None)

    def passed_on(self, failed: int, served: int | None) -> None:
        """
        Tell that a proxy sent the request on by itself, before its response began; later no load moves.

        Args:
            failed: How many endpoints failed it: the picked one, and after it fallbacks in their order.
            served: The number of the fallback that answers, from 0. From now on the load is its, and what is told as
                well. None where it is none of them: then the load is taken back, and nothing more counts.

        Raises:
            ConfigurationError: There are not so many fallbacks, or *failed* is less than 0; nothing was done.
        """
        most = len(self.fallback_slots)
        if failed < 0 or not (served is None or 0 <= served < most):
            allowed = f"allowed are 0 or more, and None or 0 to below {most}"
            message = f"passed_on: failed: {failed}, served: {served}: {allowed}"
            raise ConfigurationError(message)
        births = self.fallback_births or tuple(self.snapshot.fleet.births[slot] for slot in self.fallback_slots)
        fallbacks = list(zip(self.fallback_slots, births, strict=True))
        place = (self.slot, self.birth)
        self._owner.pass_on(self, [place, *fallbacks][:failed], place if served is None else fallbacks[served])
        if served is None:
            self.cancelled()

    def ended(self, outcome: Outcome | None) -> None:
        """
        Tell what became of the request, and take the load back. Only the first call does anything.

        Args:
            outcome: What that says of the endpoint; None where nothing is known.
        """
        self._owner.release(self, outcome)

    def retry(self, reason: str | int = "failed", *, retry_after: float | str | None = None) -> PickResult:
        """
        Tell that the endpoint failed the request, and pick another one: none that was tried for it already.

        The load moves in one step. This result is over then, and also where nothing is left to try.

        Args:
            reason: As for `failed`.
            retry_after: As for `failed`.

        Returns:
            The result to go on with.

        Raises:
            NoEndpointsError: No other endpoint is left.
            InferencePoolError: The request is over already, or was let go of by `detach`.
            ConfigurationError: *reason* is no reason; nothing was done.
        """
        return self._owner.retry(self, Outcome.of_reason(reason, retry_after=retry_after))

    @overload
    def stream(self, chunks: AsyncIterable[_T]) -> AsyncIterator[_T]: ...

    @overload
    def stream(self, chunks: Iterable[_T]) -> Iterator[_T]: ...

    def stream(self, chunks: AsyncIterable[_T] | Iterable[_T]) -> AsyncIterator[_T] | Iterator[_T]:
        """
        Give the chunks of the response to the client, and end with them.

        The first one tells that the response has `started`, the end releases. Where *chunks* raises, the endpoint
        `failed`, and what is raised goes on; where nobody takes the rest, as when a client leaves and the generator is
        closed or its task cancelled, the request is `cancelled`.

        Args:
            chunks: What the model server answers, awaited or not.
        """
        return streamed_async(self, chunks) if isinstance(chunks, AsyncIterable) else streamed(self, chunks)

    def detach(self) -> None:
        """
        Let go of the request and of the snapshot, which is worth it for a result that is kept for long.

        The load still counts. Afterwards only `started`, `passed_on` and what ends it may be called, but not `retry`.
        """
        if self.fallback_slots and not self.is_detached:
            self.fallback_births = tuple(self.snapshot.fleet.births[slot] for slot in self.fallback_slots)
        self.request, self.snapshot, self.subset, self.departed = _NO_REQUEST, _NO_SNAPSHOT, None, 0
        self.produced = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner.release(self, SUCCESS if kind is None else None)

    def __copy__(self) -> NoReturn:
        _refuse_copy()

    def __deepcopy__(self, _: object) -> NoReturn:
        _refuse_copy()

    def __reduce_ex__(self, _: object) -> NoReturn:
        _refuse_copy()

    def __repr__(self) -> str:
        return "<PickResult, detached>" if self.is_detached else f"<PickResult {self.endpoint}>"


def _refuse_copy() -> NoReturn:
    message = "a PickResult cannot be copied or pickled: its load is released once"
    raise TypeError(message)
