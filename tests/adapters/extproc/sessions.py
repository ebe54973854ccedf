"""A picker over real endpoints with a session on top, and short names for what a proxy says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final

import attrs

from inferencepool import EndpointPicker, EndpointRegistry, SchedulingProfile
from inferencepool.adapters.extproc import (
    Answer,
    BodyMode,
    Exchange,
    ExternalProcessor,
    Message,
    Metadata,
    ProcessorOptions,
    RequestBody,
    RequestBodyAnswer,
    RequestHeaders,
    RequestHeadersAnswer,
    Routing,
    Session,
    StreamedRequestBody,
)
from inferencepool.errors import InferencePoolError
from inferencepool.model import InferenceModelRewrite, InferenceObjective, InferenceRequest
from inferencepool.scheduling import PickResult
from inferencepool.testing import ManualClock, make_pod, make_pool

FULL: Final = BodyMode.FULL_DUPLEX_STREAMED
STREAMED: Final = BodyMode.STREAMED
BUFFERED: Final = BodyMode.BUFFERED
PARTIAL: Final = BodyMode.BUFFERED_PARTIAL
NONE: Final = BodyMode.NONE

PATH: Final = "/v1/completions"
ADDRESSES: Final = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


class Kept:
    """Keeps what became of requests, and tells who waits for it."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.on_change: Callable[[], object] = lambda: None

    def finished(self, exchange: Exchange, /) -> None:
        """Keep *exchange*."""
        self.exchanges.append(exchange)
        self.on_change()


class Asked:
    """Keeps what the picker was asked for."""

    def __init__(self) -> None:
        self.requests: list[InferenceRequest] = []

    def picked(self, result: PickResult, /) -> None:
        """Keep the request."""
        self.requests.append(result.request)

    def refused(self, request: InferenceRequest, error: InferencePoolError, /) -> None:  # noqa: ARG002 - a protocol
        """Keep the request."""
        self.requests.append(request)


@attrs.frozen
class Bench:
    """A processor and everything below it."""

    clock: ManualClock
    registry: EndpointRegistry
    picker: EndpointPicker
    processor: ExternalProcessor
    kept: Kept
    asked: Asked

    @property
    def in_flight(self) -> int:
        """Picks that were not released."""
        return self.picker.statistics().in_flight

    @property
    def counts(self) -> tuple[int, int, int]:
        """Sessions, held picks, picks in flight."""
        statistics = self.processor.statistics()
        return statistics.sessions, statistics.held, self.in_flight

    def session(self) -> Session:
        """Begin a session."""
        return self.processor.session()


def make_bench(
    addresses: Iterable[str] = ADDRESSES,
    *,
    ports: Iterable[int] = (8000,),
    profile: SchedulingProfile | None = None,
    clock: Callable[[], float] | None = None,
    objectives: Iterable[InferenceObjective] = (),
    rewrites: Iterable[InferenceModelRewrite] = (),
    observe_picks: bool = False,
    **options: Any,
) -> Bench:
    """
    Make a processor with *options* for a pool of pods with these *addresses*.

    Without a *clock* time stands still, until the bench's own is moved.
    """
    manual = ManualClock()
    registry = EndpointRegistry(clock=manual)
    registry.set_pool(make_pool(ports=ports))
    registry.resync([make_pod(f"pod-{number}", ip=ip) for number, ip in enumerate(addresses)])
    asked = Asked()
    picker = EndpointPicker(registry, profile=profile, rng=Random(7), observer=asked if observe_picks else None)
    kept = Kept()
    processor = ExternalProcessor(
        picker,
        options=ProcessorOptions(**options),
        objectives=objectives,
        rewrites=rewrites,
        observer=kept,
        clock=clock if clock is not None else manual,
        rng=Random(7),
    )
    return Bench(manual, registry, picker, processor, kept, asked)


def body(model: str | None = "llama", prompt: str = "Hello", **more: Any) -> bytes:
    """Give a completions request, with spaces where nobody puts them."""
    document = {"prompt": prompt, **more} if model is None else {"prompt": prompt, "model": model, **more}
    return json.dumps(document, separators=(" , ", " :  ")).encode()


def head(
    mode: BodyMode | None = FULL,
    response: BodyMode | None = NONE,
    *,
    path: str = PATH,
    end: bool = False,
    metadata: Metadata | None = None,
    headers: Mapping[str, str] | None = None,
) -> RequestHeaders:
    """Give the headers of a request."""
    named = {":method": "POST", ":path": path, "x-request-id": "id-1", **(headers or {})}
    return RequestHeaders(named, end, mode, response if mode is not None else None, metadata or {})


def subset(hint: object) -> Metadata:
    """Give metadata with a subset hint."""
    return {"envoy.lb.subset_hint": {"x-gateway-destination-endpoint-subset": hint}}


def feed(session: Session, *messages: Message) -> list[Answer]:
    """Have *session* receive all *messages*; give all answers."""
    return [answer for message in messages for answer in session.receive(message)]


def routing_of(answers: Sequence[Answer]) -> Routing:
    """Give the only changes among *answers* that name a destination."""
    (routing,) = [
        answer.routing
        for answer in answers
        if isinstance(answer, RequestHeadersAnswer | RequestBodyAnswer) and answer.routing.destination
    ]
    return routing


def passed_on(answers: Sequence[Answer]) -> bytes:
    """Give the body that *answers* hand on in full duplex."""
    return b"".join(bytes(answer.body) for answer in answers if isinstance(answer, StreamedRequestBody))


def ask(bench: Bench, head: RequestHeaders | None = None, data: bytes | None = None) -> tuple[Session, list[Answer]]:
    """Have a new session answer a request whose body comes in one piece."""
    session = bench.session()
    first = _DEFAULT if head is None else head
    messages: list[Message] = [first]
    if not first.end_of_stream:
        messages.append(RequestBody(body() if data is None else data, end_of_stream=True))
    return session, feed(session, *messages)


_DEFAULT = head()
