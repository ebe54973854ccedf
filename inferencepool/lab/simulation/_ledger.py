"""The requests of a simulation: those that are under way, and what came of those that have ended."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from math import inf
from typing import final

from inferencepool.lab.simulation._arrival import Arrival
from inferencepool.lab.simulation._fleet import ModelServer
from inferencepool.lab.simulation._queue import EngineRequest
from inferencepool.lab.simulation._results import Distribution, EndpointResult, SimulationResult
from inferencepool.scheduling import PickResult

__all__ = ["Ledger"]


@final
class Ledger:
    """
    Keeps a request from its pick to its end, and releases it then.

    It knows servers, but not the fleet, which tells it what happens: so there is no cycle that keeps a simulation in
    memory after its end. Not thread-safe.

    Attributes:
        broken: Requests that broke off with their servers, and were not dealt with yet.
    """

    def __init__(self, block_size: int, *, keeps_requests: bool = False) -> None:
        """
        Begin with nothing.

        Args:
            block_size: Tokens in a block of the engines' caches.
            keeps_requests: Whether results are kept whole, so that they can be retried.
        """
        self._block_size = block_size
        self._keeps = keeps_requests
        self._flight: dict[EngineRequest, tuple[Arrival, PickResult, ModelServer]] = {}
        # What the response of a request will tell its session, and what each session was told so far.
        self._response_headers: dict[EngineRequest, tuple[str, Mapping[str, str]]] = {}
        self._session_headers: dict[str, Mapping[str, str]] = {}
        self._rejected: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self.broken: list[EngineRequest] = []
        self._to_first_token, self._to_end = array("d"), array("d")
        self._last_end = 0.0
        # What clients send next, and when they may: see `Arrival.then`.
        self._thens: dict[EngineRequest, Callable[[float], Arrival | None]] = {}
        self._followers: list[tuple[float, int, Arrival]] = []
        self._followed = 0

    def headers_of(self, session: str) -> Mapping[str, str]:
        """Give the headers that a request of *session* has."""
        return {"x-session-id": session, **self._session_headers.get(session, {})}

    def sent(self, arrival: Arrival, result: PickResult, server: ModelServer, request: EngineRequest) -> None:
        """Take note of a request that was sent to *server*, and let go of all but its load."""
        if arrival.session and (headers := result.response_headers):
            self._response_headers[request] = (arrival.session, headers)
        if arrival.then is not None:
            self._thens[request] = arrival.then
        if not self._keeps:
            result.detach()
        self._flight[request] = (arrival, result, server)

    def failed(self, arrival: Arrival, reason: str, at: float) -> None:
        """Take note of a request that failed for good at a time; its client goes on with the next one."""
        self._failed[reason] += 1
        if arrival.then is not None:
            self._follow(arrival.then(at))

    def take(self, request: EngineRequest) -> tuple[Arrival, PickResult] | None:
        """Let go of a request that is given up; None where it is over already."""
        found = self._flight.pop(request, None)
        self._response_headers.pop(request, None)
        self._thens.pop(request, None)
        return None if found is None else found[:2]

    def broke(self, server: ModelServer) -> None:
        """Take note that all requests broke off that *server* has: they are to be dealt with."""
        self.broken += [request for request, (_, _, where) in self._flight.items() if where is server]

    def under_way(self) -> list[EngineRequest]:
        """List all requests that are not over."""
        return list(self._flight)

    def rejected(self, reason: str) -> None:
        """Take note of a request that was not sent anywhere."""
        self._rejected[reason] += 1

    def begun(self, request: EngineRequest) -> None:
        """Take note of the first token of an answer, unless its client has given up."""
        if request not in self._flight:
            return
        self._flight[request][1].started()
        if self._response_headers and request in self._response_headers:
            session, headers = self._response_headers.pop(request)
            self._session_headers[session] = headers

    def finished(self, request: EngineRequest) -> None:
        """Take note of the end of an answer, unless its client has given up."""
        if request not in self._flight:
            return
        arrival, result, server = self._flight.pop(request)
        result.release()
        took = request.finished_at - arrival.at
        self._to_first_token.append(request.first_token_at - arrival.at)
        self._to_end.append(took)
        server.prompt_blocks += request.prompt.tokens // self._block_size
        server.hit_blocks += request.hit_blocks
        server.request_seconds += took
        server.last_end = self._last_end = request.finished_at
        if self._thens and request in self._thens:
            self._follow(self._thens.pop(request)(request.finished_at))

    def _follow(self, arrival: Arrival | None) -> None:
        if arrival is not None:
            self._followed += 1
            heappush(self._followers, (arrival.at, self._followed, arrival))

    @property
    def is_followed(self) -> bool:
        """Whether requests are to come, or may come, that follow others."""
        return bool(self._thens or self._followers)

    @property
    def next_follower_at(self) -> float:
        """When the first request comes that follows another one, as far as that is known; infinite for never."""
        return self._followers[0][0] if self._followers else inf

    def next_follower(self) -> Arrival:
        """Take out the first request that follows another one."""
        return heappop(self._followers)[2]

    def result(self, profile: str, servers: list[ModelServer]) -> SimulationResult:
        """Tell what came of all requests, after they have ended."""
        return SimulationResult(
            profile=profile,
            requests=len(self._to_end) + self._rejected.total() + self._failed.total(),
            completed=len(self._to_end),
            rejected=dict(sorted(self._rejected.items())),
            failed=dict(sorted(self._failed.items())),
            seconds=self._last_end,
            prompt_blocks=sum(server.prompt_blocks for server in servers),
            hit_blocks=sum(server.hit_blocks for server in servers),
            time_to_first_token=Distribution.of(self._to_first_token),
            end_to_end=Distribution.of(self._to_end),
            endpoints=tuple(self._endpoint(server) for server in servers),
        )

    def _endpoint(self, server: ModelServer) -> EndpointResult:
        # One that left may still have been busy for a while.
        until = self._last_end if server.left_at is None else max(server.left_at, server.last_end)
        there = until - server.joined_at
        return EndpointResult(
            name=server.pod_name,
            picks=server.picks,
            mean_load=server.request_seconds / there if there > 0 else 0.0,
            busy_share=server.engine.busy_seconds / there if there > 0 else 0.0,
            longest_queue=server.longest_queue,
            hit_rate=server.hit_blocks / server.prompt_blocks if server.prompt_blocks else 0.0,
            adapter_loads=server.engine.adapter_loads,
        )
