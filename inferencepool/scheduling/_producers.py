"""Strategies that remember, and state that several strategies share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from inferencepool.model import EndpointSet, InferenceRequest, Snapshot
from inferencepool.scheduling._candidate_set import CandidateSet

if TYPE_CHECKING:
    from inferencepool.scheduling._result import PickResult

__all__ = ["Annotator", "PickListener", "Producer", "with_producers"]


class PickListener(Protocol):
    """
    **Protocol:** a strategy that remembers where requests went. Each method may be left out.

    Called without any lock, by the thread that picks or releases; so a listener guards its own state.
    """

    def picked(self, result: PickResult, /) -> object:
        """Hear of a pick, before its result is handed out."""
        ...

    def started(self, result: PickResult, /) -> object:
        """
        Hear that the response to a request has begun: at most once for each pick, and before it is released.

        Where another thread releases it at that very moment, `released` may be heard first.
        As in `released`, the result may be detached.
        """
        ...

    def released(self, result: PickResult, /) -> object:
        """
        Hear that a pick was released: once for each pick, if it is released at all.

        The result may be detached by then: only what identifies it, its `slot` and its `birth` can be relied on.
        """
        ...


class Annotator(Protocol):
    """**Protocol:** a strategy that can say more about its candidates than a score does."""

    def notes(self, request: InferenceRequest, candidates: CandidateSet, /) -> Sequence[tuple[str, EndpointSet]]:
        """Give texts for explanations, each with the endpoints it is about; the first one about an endpoint counts."""
        ...


class Producer(Protocol):
    """
    **Protocol:** state that several strategies share, such as what is cached where. Each method may be left out.

    A strategy, or a producer, names the producers that it uses in an attribute ``producers``. A producer is asked and
    told once for each pick, however many strategies name it; what another one names comes first. It may have the
    methods of `PickListener` and of `LoadMeasure` too. Strategies themselves count as producers, so one that shares
    its state with no other needs no second object.
    """

    def prepare(self, snapshot: Snapshot, /) -> object:
        """Get ready for picks from *snapshot*, which is new; called without a lock by the thread that saw it first."""
        ...

    def produce(self, request: InferenceRequest, snapshot: Snapshot, /) -> object:
        """
        Find out about *request* what strategies will ask for; called before the scheduler's lock is taken.

        Keep it in ``request.produced[self]``: strategies ask with the lock held, and explanations ask again later.
        """
        ...

    def has_cached(self, result: PickResult, /) -> bool:
        """
        Tell whether the endpoint that was picked has anything of the prompt cached; called without a lock.

        Asked before `PickListener.picked`, and only for requests that are to be refused where nobody says so.
        """
        ...


def with_producers(strategies: Iterable[object]) -> Iterator[Any]:
    """List *strategies* with all producers that they name, each object once and after those that it names."""
    seen: set[int] = set()

    def walk(item: object) -> Iterator[Any]:
        if id(item) in seen:
            return
        seen.add(id(item))
        for producer in getattr(item, "producers", ()):
            yield from walk(producer)
        yield item

    for strategy in strategies:
        yield from walk(strategy)
