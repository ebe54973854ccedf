"""What contract checks ask strategies about: fleets and requests that real ones are like, and awkward ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import attrs

from inferencepool.model import (
    Candidates,
    Endpoint,
    EndpointMetrics,
    EndpointSet,
    InferenceRequest,
    Snapshot,
    to_endpoint_set,
    to_slots,
)
from inferencepool.scheduling import LoadMeasure
from inferencepool.testing._builders import make_endpoint, make_snapshot, snapshot_by_slot

__all__ = ["Case", "CaseCandidates", "cases", "picture", "requests"]

_MANY = 100
_HUGE = 10**9


@attrs.frozen(kw_only=True)
class Case:
    """
    A fleet, and which of its endpoints are candidates.

    Attributes:
        label: What the fleet is, to end the sentence "asked about ...".
        snapshot: The fleet and its load.
        slots: The candidates.
        pending: Picks that the metrics do not cover yet, by slot; empty for none.
    """

    label: str
    snapshot: Snapshot
    slots: Sequence[int]
    pending: Sequence[int] = ()

    def candidates(self) -> Candidates:
        """List the candidates."""
        return Candidates(self.snapshot, self.slots, self.pending)


@attrs.define(eq=False)
class CaseCandidates:
    """The candidates of a case as a set; what is in flight at an endpoint follows from its slot."""

    members: EndpointSet
    snapshot: Snapshot
    rng: Random = attrs.field(factory=lambda: Random(1))

    @classmethod
    def of(cls, case: Case) -> CaseCandidates:
        """Show the candidates of *case*."""
        return cls(to_endpoint_set(case.slots), case.snapshot)

    def in_flight(self, slot: int) -> int:
        """Let slots differ."""
        return slot * 7 % 5

    def least_in_flight(self, among: EndpointSet) -> EndpointSet:
        """Walk *among*."""
        by_count = [(count, members & among) for count, members in self.by_in_flight()]
        return next((members for _, members in by_count if members), 0)

    def by_in_flight(self) -> Sequence[tuple[int, EndpointSet]]:
        """Walk all candidates."""
        by_count: dict[int, list[int]] = {}
        for slot in to_slots(self.members):
            by_count.setdefault(self.in_flight(slot), []).append(slot)
        return [(count, to_endpoint_set(by_count[count])) for count in sorted(by_count)]

    def total_in_flight(self) -> int:
        """Walk all endpoints."""
        return sum(map(self.in_flight, self.snapshot.fleet.slots))

    def least_amount(self, _measure: LoadMeasure, among: EndpointSet) -> int | None:
        """Let a request have a hundred units of everything."""
        return min((100 * self.in_flight(slot) for slot in to_slots(among & self.members)), default=None)


def _whole(label: str, snapshot: Snapshot, pending: Sequence[int] = ()) -> Case:
    return Case(label=label, snapshot=snapshot, slots=snapshot.fleet.slots, pending=pending)


def cases() -> Iterator[Case]:
    """Build all fleets anew; two calls give equal ones that share no object."""
    yield _whole("one idle endpoint", make_snapshot(1))
    yield _whole("one busy endpoint", make_snapshot({"pod-0": {"waiting_queue_size": 7, "kv_cache_usage": 0.7}}))
    yield _whole("three idle endpoints", make_snapshot(3))
    yield _whole("endpoints of equal load", make_snapshot({f"pod-{n}": _load(2, 5, 0.5) for n in range(4)}))
    yield _whole("endpoints with IPv6 addresses and two ports", _dual_stack())
    yield _whole("endpoints with LoRA adapters", _with_adapters())
    yield _whole("endpoints of extreme load", _extreme())
    many = _many()
    yield _whole(f"{_MANY} endpoints", many)
    yield Case(label=f"a part of {_MANY} endpoints", snapshot=many, slots=[1, 2, 50, _MANY - 1])
    yield Case(label=f"one of {_MANY} endpoints", snapshot=many, slots=[3])
    yield _whole("a fleet with free slots", _with_holes())
    yield _whole("endpoints with pending picks", _extreme(), [3, 0, 250, 1])


def _load(waiting: int, running: int, used: float) -> EndpointMetrics:
    return EndpointMetrics(waiting_queue_size=waiting, running_requests=running, kv_cache_usage=used)


def _dual_stack() -> Snapshot:
    loads = {}
    for pod, address in enumerate(("10.0.0.1", "fd00::1", "fd00::2")):
        for rank in range(2):
            endpoint = make_endpoint(
                f"pod-{pod}", address=address, port=8000 + rank, rank=rank, labels={"zone": "ab"[pod % 2]}
            )
            loads[endpoint] = _load(pod, rank, 0.25 * pod)
    return make_snapshot(loads)


def _with_adapters() -> Snapshot:
    return make_snapshot(
        {
            "active": {"active_models": ["chat"], "max_active_models": 1},
            "waiting": {"active_models": ["sql"], "waiting_models": ["chat"], "max_active_models": 2},
            "room": {"active_models": ["sql"], "max_active_models": 4, "waiting_queue_size": 1},
            "none": {"kv_cache_usage": 0.5},
        }
    )


def _extreme() -> Snapshot:
    return make_snapshot(
        {
            "idle": {},
            "full": _load(_HUGE, _HUGE, 1.0),
            "waiting": _load(_HUGE - 1, 0, 0.0),
            "running": _load(1, _HUGE, 1e-300),
        }
    )


def _many() -> Snapshot:
    rng = Random(7)
    names = ["chat", "sql", "law"]
    return make_snapshot(
        {
            f"pod-{number}": EndpointMetrics(
                waiting_queue_size=rng.randrange(20),
                running_requests=rng.randrange(200),
                kv_cache_usage=rng.random(),
                active_models=frozenset(rng.sample(names, rng.randrange(3))),
                max_active_models=rng.randrange(4),
            )
            for number in range(_MANY)
        }
    )


def _with_holes() -> Snapshot:
    endpoints: list[Endpoint | None] = [None, make_endpoint("pod-1"), None, make_endpoint("pod-3", address="10.0.0.3")]
    return snapshot_by_slot(endpoints, [_load(_HUGE, 0, 1.0), _load(3, 1, 0.5), _load(0, 0, 0.0), _load(4, 1, 0.25)])


def requests() -> Iterator[InferenceRequest]:
    """Build all requests anew."""
    yield InferenceRequest()
    yield InferenceRequest(model="chat", prompt=b"You are a helpful assistant. " * 100, id="1")
    yield InferenceRequest(
        model="never-heard-of", prompt="ü\u0000".encode(), headers={"x-session-token": "?", "x-request-id": "2"}, id="2"
    )
    yield InferenceRequest(
        model="chat", prompt=b"Good morning. " * 50, more_prompts=[b"", b"Good night. " * 50], id="3"
    )


def picture(*inputs: object) -> object:
    """Copy all that a strategy could change in *inputs*, as a value that compares equal until one is changed."""
    return [_picture(item) for item in inputs]


def _picture(item: object) -> object:
    match item:
        case InferenceRequest():
            # Notes are what a strategy may leave on a request.
            fields = attrs.asdict(item, recurse=False, filter=lambda field, _: field.name != "produced")
            return {name: dict(value) if name == "headers" else value for name, value in fields.items()}
        case Endpoint():
            return (item.id, item.destination, dict(item.labels))
        case Candidates() | CaseCandidates():
            of_kind = [item.members] if isinstance(item, CaseCandidates) else [list(item.slots), list(item.all_pending)]
            return (of_kind, _picture(item.snapshot))
        case Snapshot():
            names = [field.name for field in attrs.fields(Snapshot) if field.name != "fleet"]
            fields = {name: getattr(item, name) for name in [*names, "lora_active", "lora_waiting", "lora_room"]}
            copies = {
                name: dict(value) if hasattr(value, "keys") else list(value) if hasattr(value, "__len__") else value
                for name, value in fields.items()
            }
            return (copies, [_picture(endpoint) for endpoint in item.fleet.endpoints])
        case list():
            return list(item)
        case _:
            return item
