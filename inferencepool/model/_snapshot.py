"""The fleet at one moment: who exists, and how loaded they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, reduce
from operator import itemgetter, or_
from typing import Any, TypeVar, final, overload

import attrs

from inferencepool.model._ejection import Ejection
from inferencepool.model._endpoint import Endpoint, join_host_port
from inferencepool.model._endpoint_set import EndpointSet, to_endpoint_set, to_slots
from inferencepool.model._loras import LoraSets
from inferencepool.model._metrics import EndpointMetrics

__all__ = ["Candidate", "Candidates", "Fleet", "Snapshot"]

_T = TypeVar("_T")


@final
@attrs.frozen(eq=False, slots=False)
class Fleet:
    """
    Who exists. The same object serves all snapshots until an endpoint comes, goes or changes.

    Attributes:
        endpoints: Endpoint by slot; None in a slot that is free.
        births: Number by slot that tells one occupant of a slot from the next; an endpoint keeps its own for life.
        members: The set of all endpoints.
        caches: Number by slot that tells what one process has cached from what another one has. An endpoint that comes
            back as the same pod within five minutes has the slot and the number that it had, whatever its birth, and
            one whose containers restarted gets another number. A free slot keeps that of the endpoint that may come
            back to it; else it is 0. The same as *births* where it is not given.
    """

    endpoints: tuple[Endpoint | None, ...] = ()
    births: tuple[int, ...] = ()
    members: EndpointSet = 0
    caches: tuple[int, ...] = attrs.field(default=attrs.Factory(lambda self: self.births, takes_self=True))

    @cached_property
    def slots(self) -> Sequence[int]:
        """The slots in use, ascending."""
        if self.members == (1 << len(self.endpoints)) - 1:
            return range(len(self.endpoints))
        return tuple(to_slots(self.members))

    @cached_property
    def by_destination(self) -> Mapping[str, EndpointSet]:
        """``ip:port`` (IPv6 in brackets) and bare ``ip`` to the endpoints there, by any address of their pods."""
        found: dict[str, list[int]] = {}
        for slot in self.slots:
            endpoint = self.at(slot)
            found.setdefault(endpoint.destination, []).append(slot)
            found.setdefault(endpoint.address, []).append(slot)
            for address in endpoint.other_addresses:
                found.setdefault(join_host_port(address, endpoint.port), []).append(slot)
                found.setdefault(address, []).append(slot)
        return {text: to_endpoint_set(slots) for text, slots in found.items()}

    @cached_property
    def by_id(self) -> Mapping[str, int]:
        """Endpoint id to slot."""
        return {self.at(slot).id: slot for slot in self.slots}

    def at(self, slot: int) -> Endpoint:
        """
        Look up the endpoint in *slot*.

        Raises:
            LookupError: The slot is free.
        """
        endpoint = self.endpoints[slot]
        if endpoint is None:
            message = f"slot {slot} is free"
            raise LookupError(message)
        return endpoint

    def __len__(self) -> int:
        return self.members.bit_count()

    def __repr__(self) -> str:
        return f"<Fleet of {len(self)}>"


@final
@attrs.frozen(eq=False, slots=False, kw_only=True)
class Snapshot:
    """
    The fleet and its load at one moment. Nothing it holds changes afterwards.

    All columns are indexed by slot; free slots hold meaningless values.

    Attributes:
        generation: Grows by one with every snapshot that differs from the one before.
        fleet: Who exists.
        metrics: The latest metrics, as they were reported.
        waiting_queue_size: Column of `EndpointMetrics.waiting_queue_size`, as it is scored: stale metrics may count for
            more than they tell (see `inferencepool.registry.Staleness`), and what is unknown is in `unknown`.
        running_requests: Column of `EndpointMetrics.running_requests`, likewise.
        kv_cache_usage: Column of `EndpointMetrics.kv_cache_usage`, likewise.
        observed_at: When the observation behind the metrics began; minus infinity where there is none.
        stale: The endpoints whose metrics are too old to be trusted.
        avoided: The endpoints that are candidates only where no other is left: stale ones, and ejected ones.
        failing: Those of them that are ejected because they failed, and others that fail likewise. Where all that a
            request may go to are avoided, these are so still, if that leaves any.
        avoided_by_model: Those that are avoided beside them for requests for one model.
        ejections: What is known of the ejected ones among the avoided, by slot.
        probing: By model, and by the empty text for all of them, the endpoints whose ejection one request is to probe.
            The next one that may go there does.
        unknown: By the name of a column, the endpoints that never told it while others do. In the column they have the
            mean of those.
    """

    generation: int = 0
    fleet: Fleet = attrs.field(factory=Fleet)
    metrics: Sequence[EndpointMetrics] = ()
    waiting_queue_size: Sequence[int] = ()
    running_requests: Sequence[int] = ()
    kv_cache_usage: Sequence[float] = ()
    observed_at: Sequence[float] = ()
    stale: EndpointSet = 0
    avoided: EndpointSet = 0
    failing: EndpointSet = 0
    avoided_by_model: Mapping[str, EndpointSet] = attrs.field(factory=dict)
    ejections: Mapping[int, Ejection] = attrs.field(factory=dict)
    probing: Mapping[str, EndpointSet] = attrs.field(factory=dict)
    unknown: Mapping[str, EndpointSet] = attrs.field(factory=dict)

    def avoided_for(self, model: str) -> EndpointSet:
        """Give the endpoints that are avoided for requests for *model*."""
        return self.avoided | self.avoided_by_model.get(model, 0)

    def probing_for(self, model: str) -> EndpointSet:
        """Give the endpoints whose ejection a request for *model* is to probe."""
        return self.probing.get("", 0) | self.probing.get(model, 0)

    @cached_property
    def _restated(self) -> EndpointSet:
        """The endpoints that count for something else than they told."""
        return reduce(or_, self.unknown.values(), self.stale)

    @cached_property
    def _loras(self) -> LoraSets:
        # Only scorers of adapters ask for these: collected when one does, they cost nobody else anything.
        return LoraSets.collect(self.metrics, self.fleet.slots)

    @cached_property
    def lora_active(self) -> Mapping[str, EndpointSet]:
        """LoRA adapter to the endpoints that run it. O(endpoints) the first time."""
        return self._loras.active

    @cached_property
    def lora_waiting(self) -> Mapping[str, EndpointSet]:
        """LoRA adapter to the endpoints where it waits. O(endpoints) the first time."""
        return self._loras.waiting

    @cached_property
    def lora_room(self) -> EndpointSet:
        """The endpoints that have room for one more LoRA adapter. O(endpoints) the first time."""
        return self._loras.room

    @cached_property
    def _candidates(self) -> dict[int, Candidate]:
        return {}

    def candidate(self, slot: int) -> Candidate:
        """Give the endpoint in *slot* together with its metrics, as they are scored; the same object each time."""
        candidate = self._candidates.get(slot)
        if candidate is None:
            metrics = self.metrics[slot]
            if self._restated >> slot & 1:
                metrics = metrics.scored_as(
                    self.waiting_queue_size[slot], self.running_requests[slot], self.kv_cache_usage[slot]
                )
            candidate = Candidate(slot, self.fleet.at(slot), metrics)
            self._candidates[slot] = candidate
        return candidate

    def __len__(self) -> int:
        return len(self.fleet)

    def __repr__(self) -> str:
        return f"<Snapshot {self.generation} of {len(self)} endpoints>"


@final
@attrs.frozen(eq=False)
class Candidate:
    """
    An endpoint that may be picked, with its metrics.

    Attributes:
        slot: The endpoint's slot in the snapshot.
        endpoint: The endpoint.
        metrics: Its latest metrics, as they are scored.
    """

    slot: int
    endpoint: Endpoint
    metrics: EndpointMetrics


@final
@attrs.frozen(eq=False, slots=False)
class Candidates(Sequence[Candidate]):
    """
    Endpoints of one snapshot that may be picked: a sequence of `Candidate`, with the load as columns beside it.

    Walk it when few are expected; use the columns when the cost for a large fleet matters. All columns have one value
    for each candidate, in the order of the sequence.

    Attributes:
        snapshot: The snapshot that the candidates belong to.
        slots: Their slots.
        all_pending: Picks that the metrics do not cover yet, by slot; empty when nothing is pending.
    """

    snapshot: Snapshot
    slots: Sequence[int]
    all_pending: Sequence[int] = ()

    @property
    def waiting_queue_size(self) -> Sequence[int]:
        """Requests that wait in the engine, per candidate."""
        return self.column(self.snapshot.waiting_queue_size)

    @property
    def running_requests(self) -> Sequence[int]:
        """Requests that the engine works on, per candidate."""
        return self.column(self.snapshot.running_requests)

    @property
    def kv_cache_usage(self) -> Sequence[float]:
        """Used share of the KV cache, per candidate."""
        return self.column(self.snapshot.kv_cache_usage)

    @property
    def pending(self) -> Sequence[int]:
        """Picks that the metrics do not cover yet, per candidate."""
        return self.column(self.all_pending) if self.all_pending else [0] * len(self.slots)

    def column(self, by_slot: Sequence[_T]) -> Sequence[_T]:
        """Choose the candidates' values from a column that is indexed by slot."""
        slots = self.slots
        if isinstance(slots, range) and slots == range(len(by_slot)):
            return by_slot
        if len(slots) > 1:
            values: tuple[_T, ...] = itemgetter(*slots)(by_slot)
            return values
        return [by_slot[slot] for slot in slots]

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Candidate]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.snapshot.candidate(slot) for slot in self.slots[index]]
        return self.snapshot.candidate(self.slots[index])

    def __iter__(self) -> Iterator[Candidate]:
        return map(self.snapshot.candidate, self.slots)

    def __len__(self) -> int:
        return len(self.slots)

    def __repr__(self) -> str:
        return f"<Candidates: {len(self)} of {len(self.snapshot)} endpoints>"
