"""The simulated model servers, and how the registry gets to know of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import final

import attrs

from inferencepool.lab.simulation._engine import SimulatedEngine
from inferencepool.lab.simulation._options import (
    EndpointLeaves,
    EndpointsJoin,
    FaultChanges,
    FleetChange,
    SimulationOptions,
)
from inferencepool.lab.simulation._queue import EngineRequest
from inferencepool.model import EndpointMetrics, InferencePool, Pod
from inferencepool.registry import EndpointRegistry

__all__ = ["Fleet", "ModelServer"]

_NAMESPACE = "default"
_PORT = 8000
_LABELS = {"app": "simulated"}


@attrs.define(eq=False)
class ModelServer:
    """
    One endpoint of the fleet.

    Attributes:
        number: Its number, counted from 0 in the order in which they joined.
        engine: What serves its requests.
        joined_at: When it joined.
        left_at: When it left; None while it is there.
        picks: Requests that were sent to it.
        longest_queue: The most requests that waited there at a time.
        prompt_blocks: Blocks that the prompts of requests fill that it answered.
        hit_blocks: Those of them that were in its cache.
        request_seconds: How long the requests that it answered were there, all together.
        last_end: When it finished the last of them.
        fault: What is wrong with it (see `FaultChanges`).
        told: What its metrics page told last.
        pod_name: The name of its pod.
        address: The IP address of its pod.
        endpoint_id: The id of its endpoint.
        destination: The address of its endpoint with the port.
    """

    number: int
    engine: SimulatedEngine
    joined_at: float
    left_at: float | None = None
    picks: int = 0
    longest_queue: int = 0
    prompt_blocks: int = 0
    hit_blocks: int = 0
    request_seconds: float = 0.0
    last_end: float = 0.0
    fault: str = "none"
    told: EndpointMetrics = attrs.field(factory=EndpointMetrics)
    pod_name: str = attrs.field(init=False)
    address: str = attrs.field(init=False)
    endpoint_id: str = attrs.field(init=False)
    destination: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        number = self.number
        self.pod_name = f"server-{number}"
        self.address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        self.endpoint_id = f"{_NAMESPACE}/{self.pod_name}-rank-0"
        self.destination = f"{self.address}:{_PORT}"


@attrs.define(eq=False)
class _Clock:
    """The simulated time. An object of its own, so that what tells the time by it does not hold the fleet."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@final
class Fleet:
    """
    Model servers by the simulated clock.

    Whoever drives it moves the time forward with `advance`, from event to event. Metrics are scraped and delivered
    when their time has come, and only then does the registry know of them. Not thread-safe.

    Attributes:
        registry: The registry that is told about the fleet.
        servers: All there ever were, by number.
    """

    def __init__(
        self,
        options: SimulationOptions,
        rng: Random,
        *,
        begun: Callable[[EngineRequest], object],
        finished: Callable[[EngineRequest], object],
        broke: Callable[[ModelServer], object],
    ) -> None:
        """
        Begin at time 0.

        Args:
            options: What the fleet is like and how it changes.
            rng: Settles when in its interval each endpoint is scraped.
            begun: Is called with every request that wrote its first token, at that time.
            finished: Is called with every request that finishes, at that time.
            broke: Is called with a server that dies, with all that it has.
        """
        self._clock = _Clock()
        self.servers: list[ModelServer] = []
        self._options = options
        self._begun = begun
        self._finished = finished
        self._broke = broke
        self._by_destination: dict[str, ModelServer] = {}
        pool = InferencePool(name="simulated", selector=_LABELS, target_ports=[_PORT])
        self.registry = EndpointRegistry(
            pool,
            clock=self._clock,
            publish_interval=options.publish_interval,
            staleness=options.staleness,
            outlier_detection=options.outlier_detection,
            rng=Random(rng.random()),
        )
        # When which server's next event happens; an entry that its engine does not confirm is out of date.
        self._events: list[tuple[float, int]] = []
        # Servers by the time of their next scrape, and scrapes by the time of their arrival: both stay in order, since
        # the interval and the delay are the same for all.
        self._scrapes: deque[tuple[float, ModelServer]] = deque()
        self._deliveries: deque[tuple[float, str, EndpointMetrics]] = deque()
        self._changes = deque(options.changes)
        self._join(options.endpoints, 1.0)
        turns = sorted(rng.random() * options.scrape_interval for _ in self.servers)
        self._scrapes = deque(zip(turns, rng.sample(self.servers, len(self.servers)), strict=True))

    @property
    def now(self) -> float:
        """The time, in seconds."""
        return self._clock.now

    def fault_at(self, destination: str) -> str:
        """Tell what is wrong with the server at *destination*."""
        return self._by_destination[destination].fault

    @property
    def next_at(self) -> float:
        """When the next thing happens in the fleet, or might; infinite for never."""
        at = self._events[0][0] if self._events else inf
        return min(at, self._changes[0].at) if self._changes else at

    def submit(self, destination: str, request: EngineRequest) -> ModelServer:
        """
        Send *request* to the server at *destination*.

        Raises:
            InvalidRequestError: Its engine cannot serve it.
        """
        server = self._by_destination[destination]
        engine = server.engine
        next_at = engine.next_at
        engine.submit(request, self.now)
        if engine.next_at != next_at:
            self._expect(server)
        server.picks += 1
        server.longest_queue = max(server.longest_queue, engine.waiting)
        return server

    def advance(self, until: float) -> None:
        """Let everything happen up to *until*."""
        events = self._events
        while True:
            at = events[0][0] if events else inf
            if self._changes and self._changes[0].at < at and self._changes[0].at <= until:
                self._change(self._changes.popleft())
            elif at <= until:
                self._next_event()
            else:
                break
        self._scrape(until)
        self._deliver(until)
        self._clock.now = until

    def finish(self) -> None:
        """Let all requests finish. Nothing is scraped any more."""
        self._scrapes.clear()
        while self._events:
            if self._changes and self._changes[0].at < self._events[0][0]:
                self._change(self._changes.popleft())
            else:
                self._next_event()

    def _next_event(self) -> None:
        at, number = heappop(self._events)
        engine = self.servers[number].engine
        if engine.next_at != at:
            return
        if self._scrapes and self._scrapes[0][0] <= at:
            self._scrape(at)
        self._clock.now = at
        finished = engine.advance()
        if engine.next_at < inf:
            heappush(self._events, (engine.next_at, number))
        for request in engine.begun:
            self._begun(request)
        for request in finished:
            self._finished(request)

    def _scrape(self, until: float) -> None:
        """Scrape all whose turn has come by *until*: their load is still what it was then."""
        scrapes, interval, delay = self._scrapes, self._options.scrape_interval, self._options.scrape_delay
        while scrapes and scrapes[0][0] <= until:
            at, server = scrapes.popleft()
            if server.left_at is None:
                scrapes.append((at + interval, server))
                self._read_page(server, at, at + delay)

    def _read_page(self, server: ModelServer, at: float, known_at: float) -> None:
        """Ask for a server's metrics, as far as it answers."""
        if server.fault == "dead":
            # Nobody listens there, and that is known at once.
            self.registry.lose(
                self.registry.snapshot().fleet.at(self.registry.snapshot().fleet.by_id[server.endpoint_id])
            )
        elif server.fault != "frozen":
            told = server.told if server.fault == "stuck" else server.engine.metrics(at)
            server.told = attrs.evolve(told, observed_at=at) if server.fault == "stuck" else told
            self._deliveries.append((known_at, server.endpoint_id, server.told))

    def _deliver(self, until: float) -> None:
        deliveries, observe = self._deliveries, self.registry.observe_metrics
        while deliveries and deliveries[0][0] <= until:
            _, endpoint_id, metrics = deliveries.popleft()
            observe(endpoint_id, metrics, ignore_unknown=True)

    def _change(self, change: FleetChange) -> None:
        self._scrape(change.at)
        self._deliver(change.at)
        self._clock.now = change.at
        if isinstance(change, EndpointsJoin):
            self._join(change.count, change.speed)
            return
        server = self.servers[change.number]
        if isinstance(change, EndpointLeaves):
            server.left_at = self.now
            self.registry.delete_pod(_NAMESPACE, server.pod_name)
        elif isinstance(change, FaultChanges):
            self._fall_ill(server, change.fault)
        else:
            server.engine.set_speed(change.speed, self.now)
            self._expect(server)

    def _fall_ill(self, server: ModelServer, fault: str) -> None:
        server.fault = fault
        if fault == "dead":
            self._broke(server)
            busy, server.engine = server.engine.busy_seconds, SimulatedEngine(self._options.engine)
            server.engine.busy_seconds = busy
        elif fault in ("frozen", "stuck"):
            server.engine.freeze(self.now)
        else:
            server.engine.thaw(self.now)
            self._expect(server)

    def _join(self, count: int, speed: float) -> None:
        for _ in range(count):
            server = ModelServer(len(self.servers), SimulatedEngine(self._options.engine), self.now)
            server.engine.set_speed(speed, self.now)
            self.servers.append(server)
            self._by_destination[server.destination] = server
            self._scrapes.append((self.now + self._options.scrape_interval, server))
            self.registry.upsert_pod(Pod(name=server.pod_name, ip=server.address, labels=_LABELS, ready=True))

    def _expect(self, server: ModelServer) -> None:
        """Note when the next event of *server* happens."""
        if server.engine.next_at < inf:
            heappush(self._events, (server.engine.next_at, server.number))
