"""The simulation: arrivals, the picker and the fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import Protocol, TypeAlias, final

from inferencepool.errors import ConfigurationError, InvalidRequestError, NoEndpointsError
from inferencepool.lab.simulation._arrival import Arrival
from inferencepool.lab.simulation._fleet import Fleet
from inferencepool.lab.simulation._ledger import Ledger
from inferencepool.lab.simulation._options import SimulationOptions
from inferencepool.lab.simulation._queue import EngineRequest
from inferencepool.lab.simulation._results import SimulationResult
from inferencepool.model import InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.scheduling import PickResult, SchedulingProfile

__all__ = ["Gateway", "ProfileFactory", "Progress", "compare", "simulate"]

ProfileFactory: TypeAlias = Callable[[], SchedulingProfile]
"""Makes a profile: a new one for each simulation, since strategies hold state."""

Progress: TypeAlias = Callable[[int], object]
"""Is told now and then how many requests have come so far."""

_PROGRESS_EVERY = 1000


class Gateway(Protocol):
    """**Protocol:** a proxy between picker and servers that has a mind of its own, such as outlier detection."""

    def route(self, destination: str, now: float, /) -> str:
        """Give the destination that a request goes to which was picked for *destination*."""
        ...

    def heard(self, destination: str, now: float, status: int, /) -> None:
        """Hear what became of a request that went to *destination*: its status, 0 where nobody could be reached."""
        ...


def simulate(
    arrivals: Iterable[Arrival],
    profile: ProfileFactory,
    options: SimulationOptions | None = None,
    *,
    name: str = "",
    seed: int = 0,
    progress: Progress | None = None,
    gateway: Gateway | None = None,
) -> SimulationResult:
    """
    Let *arrivals* come to a simulated fleet, and pick an endpoint for each with a real `EndpointPicker`.

    The same arguments give the same result, as long as the strategies draw from the picker's source of randomness
    only. A strategy that tells the time by an attribute ``clock`` is given the simulated clock. What a strategy wants
    the response of a request to have as headers, the later requests of its session send. What follows a request (see
    `Arrival.then`) comes in its turn among the others. It ends when all requests have ended.

    Args:
        arrivals: The requests, in order of time.
        profile: Makes the profile to pick by.
        options: The fleet; None for the defaults.
        name: Name of the profile in the result; by default the one that it has.
        seed: Of what is drawn at random, but for the arrivals: ties, and when each endpoint is scraped.
        progress: Is told how many requests have come.
        gateway: Stands between the picker and the servers; None for one that does what the picker says.

    Raises:
        ConfigurationError: The profile cannot be made, or the arrivals are not in order.
        StrategyError: A strategy broke its contract.
    """
    made = profile()
    run = _Run(made, options if options is not None else SimulationOptions(), seed, gateway)
    for count, arrival in enumerate(arrivals):
        if progress is not None and not count % _PROGRESS_EVERY:
            progress(count)
        run.follow(arrival.at)
        run.arrive(arrival)
    return run.finish(name or made.name)


def compare(
    arrivals: Iterable[Arrival],
    profiles: Mapping[str, ProfileFactory],
    options: SimulationOptions | None = None,
    *,
    seed: int = 0,
    progress: Callable[[str, int], object] | None = None,
) -> tuple[SimulationResult, ...]:
    """
    Simulate the same *arrivals* with each of *profiles*, by name.

    Args:
        arrivals: The requests, in order of time; kept in memory.
        profiles: What makes each profile, by the name that it has in the results.
        options: The fleet; None for the defaults.
        seed: As for `simulate`.
        progress: Is told the profile's name and how many requests have come.

    Raises:
        ConfigurationError: As for `simulate`.
        StrategyError: As for `simulate`.
    """
    kept = tuple(arrivals)
    results = []
    for name, profile in profiles.items():
        tell = (lambda count, name=name: progress(name, count)) if progress is not None else None
        results.append(simulate(kept, profile, options, name=name, seed=seed, progress=tell))
    return tuple(results)


@final
class _Run:
    """One simulation under way."""

    def __init__(
        self, profile: SchedulingProfile, options: SimulationOptions, seed: int, gateway: Gateway | None
    ) -> None:
        self._ledger = ledger = Ledger(options.engine.kv_block_size, keeps_requests=options.retries > 0)
        self._fleet = Fleet(
            options, Random(f"scrapes {seed}"), begun=ledger.begun, finished=ledger.finished, broke=ledger.broke
        )
        self._retries, self._timeout = options.retries, options.timeout
        # A heap, for what is sent again has the deadline that it had.
        self._deadlines: list[tuple[float, int, EngineRequest]] = []
        self._sent = 0
        self._gateway = gateway
        self._picker = EndpointPicker(
            self._fleet.registry, profile=profile, rng=Random(f"picks {seed}"), reserve=options.reserve
        )
        for strategy in profile.parts_with("clock"):
            strategy.clock = self._fleet.registry.clock
        self._arrived = 0

    def follow(self, until: float) -> None:
        """Let requests that follow others come, up to *until*; step by step, since each end may bring one."""
        fleet, ledger = self._fleet, self._ledger
        while ledger.is_followed:
            at = min(fleet.next_at, ledger.next_follower_at)
            if at > until or at == inf:
                return
            if fleet.next_at <= at:
                fleet.advance(at)
            else:
                self.arrive(ledger.next_follower())

    def arrive(self, arrival: Arrival) -> None:
        """Let everything happen before *arrival*, then pick an endpoint for it and send it there."""
        fleet, ledger, at = self._fleet, self._ledger, arrival.at
        if at < fleet.now:
            message = f"simulation: arrivals: one at {at!r} s comes after one at {fleet.now!r} s, allowed is no earlier"
            raise ConfigurationError(message)
        fleet.advance(at)
        self._give_up_late()
        self._arrived += 1
        request = InferenceRequest(
            model=arrival.adapter or arrival.model,
            prompt=arrival.prompt.to_bytes(),
            headers=ledger.headers_of(arrival.session) if arrival.session else {},
            id=str(self._arrived),
        )
        try:
            result = self._picker.pick(request)
        except NoEndpointsError as error:
            ledger.rejected(error.dropped_reason or "rejected")
            return
        self._send(arrival, result)

    def _send(self, arrival: Arrival, result: PickResult) -> None:
        """Send a request to the endpoint that was picked, and to others where that fails at once."""
        fleet, gateway = self._fleet, self._gateway
        while True:
            destination = result.destination if gateway is None else gateway.route(result.destination, fleet.now)
            fault = fleet.fault_at(destination)
            is_refused = fault == "dead" or fault.isdigit()
            if gateway is not None:
                gateway.heard(destination, fleet.now, int(fault) if fault.isdigit() else 200 * (not is_refused))
            if not is_refused:
                break
            reason = int(fault) if fault.isdigit() else "connect-failure"
            again = self._retry(arrival, result, reason)
            if again is None:
                return
            result = again
        sent = EngineRequest(arrival.prompt, arrival.output_tokens, arrival.adapter, arrival.answer)
        try:
            server = fleet.submit(destination, sent)
        except InvalidRequestError:
            result.release()
            self._ledger.rejected("refused-by-engine")
        else:
            self._ledger.sent(arrival, result, server, sent)
            if self._timeout < inf:
                self._sent += 1
                heappush(self._deadlines, (arrival.at + self._timeout, self._sent, sent))

    def _retry(self, arrival: Arrival, result: PickResult, reason: str | int) -> PickResult | None:
        """Pick another endpoint for a request that failed; None where it failed for good."""
        if len(result.excluded) < self._retries:
            with suppress(NoEndpointsError):
                return result.retry(reason)
        self._fail(arrival, result, reason)
        return None

    def _fail(self, arrival: Arrival, result: PickResult, reason: str | int) -> None:
        result.failed(reason)
        self._ledger.failed(arrival, str(reason), self._fleet.now)

    def _give_up_late(self) -> None:
        """Deal with requests whose servers died, and with those whose clients wait no longer."""
        ledger, deadlines, now = self._ledger, self._deadlines, self._fleet.now
        while ledger.broken:
            request = ledger.broken.pop(0)
            taken = ledger.take(request)
            if taken is None:
                continue
            arrival, result = taken
            if result.has_started:
                # What the client has of the answer cannot be taken back.
                self._fail(arrival, result, "reset")
            elif (again := self._retry(arrival, result, "reset")) is not None:
                self._send(arrival, again)
        while deadlines and deadlines[0][0] <= now:
            taken = ledger.take(heappop(deadlines)[2])
            if taken is not None:
                self._fail(*taken, "timeout")

    def finish(self, name: str) -> SimulationResult:
        """Let all requests end, and tell what came of them."""
        self.follow(inf)
        self._fleet.finish()
        self._give_up_late()
        self._fleet.finish()
        for request in self._ledger.under_way():
            taken = self._ledger.take(request)
            if taken is not None:
                self._fail(*taken, "timeout")
        return self._ledger.result(name, self._fleet.servers)
