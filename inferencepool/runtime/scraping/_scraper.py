"""`MetricsScraper`: keeps the metrics of a registry's endpoints fresh."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from random import Random
from time import perf_counter
from typing import Final, NoReturn, final

from inferencepool.errors import ConfigurationError
from inferencepool.model import Endpoint
from inferencepool.registry import EndpointRegistry, MembershipChange
from inferencepool.runtime.scraping._log import ScrapeLog
from inferencepool.runtime.scraping._options import ScrapingOptions
from inferencepool.runtime.scraping._rhythm import Rhythm
from inferencepool.runtime.scraping._statistics import EndpointScrapes, ScrapingStatistics
from inferencepool.runtime.scraping._target import Site, Target
from inferencepool.runtime.scraping._turns import Turns

__all__ = ["MetricsScraper"]

# Scrapes that are due within a few milliseconds begin together: waking up costs more than a scrape.
_TICK: Final = 0.005
# So few endpoints fall into step: a scrape that is due within half of an interval begins with one that is due now, and
# one may begin a quarter later, with the next round.
_FEW: Final = 8
# Pages are about half of this; longer ones arrive in pieces.
_BUFFER_SIZE: Final = 128 * 1024


@final
class MetricsScraper:
    """
    Scrapes the metrics pages of all endpoints of a registry, and of those that come later.

    Each endpoint has one connection, which is kept alive, and one scrape at a time. A scrape that fails changes nothing
    but the statistics: the registry keeps the last metrics and knows how old they are. Metrics of an endpoint that is
    gone, or was replaced by another of the same name, are thrown away by the registry.

    It belongs to the event loop in which `run` runs; its thread guards it. `statistics` may be called in any thread.
    """

    def __init__(
        self,
        registry: EndpointRegistry,
        *,
        options: ScrapingOptions | None = None,
        in_use: Callable[[], Iterable[Endpoint]] | None = None,
        rng: Random | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """
        Scrape the endpoints of *registry*; `run` starts it.

        Args:
            registry: Says which endpoints there are, and gets their metrics.
            options: How they are scraped.
            in_use: Gives the endpoints that requests are sent to, for adaptive intervals:
                `EndpointPicker.endpoints_in_flight`. Without it only their own metrics tell whether they are idle.
            rng: Source of the randomness of intervals.
            clock: Measures how long work on pages takes, in seconds.

        Raises:
            ConfigurationError: A file for TLS cannot be used, or an interval is so long that metrics would be stale
                before the next scrape.
        """
        self._registry = registry
        self._options = options if options is not None else ScrapingOptions()
        self._in_use = in_use
        self._rhythm = Rhythm(self._options, rng if rng is not None else Random())
        _check_intervals(self._options, registry)
        context = self._options.tls.context() if self._options.scheme == "https" else None
        buffer = memoryview(bytearray(_BUFFER_SIZE))
        self._site = Site(registry, self._options, context, buffer, Turns(), clock, self._finished)
        self._targets: dict[str, Target] = {}
        self._changes: deque[MembershipChange] = deque()
        self._is_told = False
        self._due: list[tuple[float, int, Target]] = []
        self._numbers = count()
        self._deadlines: deque[tuple[float, int, Target]] = deque()
        self._overdue: deque[tuple[float, int, Target]] = deque()
        self._next_look = 0.0
        self._interval, self._early, self._late = 0.0, 0.0, _TICK
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gone = [0, 0, 0, 0]
        self._log = ScrapeLog(registry.staleness)

    async def run(self) -> NoReturn:
        """Scrape until cancelled."""
        self._loop = asyncio.get_running_loop()
        unsubscribe = self._registry.subscribe(self._hear)
        try:
            # Whatever changed before this snapshot may be heard of once more, and does nothing then.
            snapshot = self._registry.publish()
            self._changes.appendleft(MembershipChange(added=tuple(filter(None, snapshot.fleet.endpoints))))
            self._apply()
            while True:
                await asyncio.Event().wait()
        finally:
            unsubscribe()
            self._stop()

    def statistics(self) -> ScrapingStatistics:
        """Tell what became of scrapes. O(endpoints)."""
        registry = self._registry
        now = registry.clock()
        threshold = registry.staleness.threshold if registry.staleness is not None else float("inf")
        targets = list(self._targets.values())
        return ScrapingStatistics(
            endpoints=tuple(_scrapes_of(target, now, threshold) for target in targets),
            interval=self._rhythm.interval(len(targets)),
            scrapes=self._gone[0] + sum(target.scrapes for target in targets),
            fetch_errors=self._gone[1] + sum(target.fetch_errors for target in targets),
            read_errors=self._gone[2] + sum(target.read_errors for target in targets),
            postponed=self._gone[3] + sum(target.postponed for target in targets),
        )

    def _hear(self, change: MembershipChange) -> None:
        """Hear of a change, in any thread."""
        loop = self._loop
        self._changes.append(change)
        if loop is not None and not self._is_told:
            self._is_told = True
            # A loop that is closed has nothing to scrape any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._apply)

    def _apply(self) -> None:
        """Take over all changes so far. A storm of them costs no more than its outcome."""
        # Before the changes are taken, so that one that comes now is not forgotten.
        self._is_told = False
        outcome: dict[str, Endpoint | None] = {}
        while self._changes:
            change = self._changes.popleft()
            outcome.update(dict.fromkeys(endpoint.id for endpoint in change.removed))
            outcome.update((endpoint.id, endpoint) for endpoint in (*change.added, *change.updated))
        if self._loop is not None:
            now = self._loop.time()
            for endpoint_id, endpoint in outcome.items():
                self._place(endpoint_id, endpoint, now)
            interval = self._interval = self._rhythm.interval(len(self._targets))
            is_few = len(self._targets) <= _FEW
            self._early, self._late = (interval / 2, max(interval / 4, _TICK)) if is_few else (0.0, _TICK)
            self._log.tell_interval(self._interval)

    def _place(self, endpoint_id: str, endpoint: Endpoint | None, now: float) -> None:
        """Let *endpoint* be the one with that id; None for no such one."""
        target = self._targets.get(endpoint_id)
        if target is not None and endpoint is not None and _is_same(target.endpoint, endpoint):
            target.replace(endpoint)
            return
        if target is not None:
            self._remove(target)
        if endpoint is not None:
            self._targets[endpoint_id] = target = Target(endpoint, self._site, now)
            self._plan(target, now + self._rhythm.first(len(self._targets)))

    def _remove(self, target: Target) -> None:
        del self._targets[target.endpoint.id]
        target.close()
        numbers = (target.scrapes, target.fetch_errors, target.read_errors, target.postponed)
        for index, number in enumerate(numbers):
            self._gone[index] += number

    def _stop(self) -> None:
        for target in list(self._targets.values()):
            self._remove(target)
        self._changes.clear()
        self._due.clear()
        self._deadlines.clear()
        self._overdue.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._loop = self._timer = None

    def _plan(self, target: Target, due: float) -> None:
        """Let the next scrape of *target* begin at *due*."""
        target.due = due
        heapq.heappush(self._due, (due, next(self._numbers), target))
        self._wake(due)

    def _wake(self, at: float) -> None:
        """Be awake at *at*, or a little later."""
        assert self._loop is not None  # noqa: S101 - targets exist only while it runs
        timer = self._timer
        if timer is not None:
            if timer.when() <= at + self._late:
                return
            timer.cancel()
        self._timer = self._loop.call_at(max(at, self._loop.time() + _TICK), self._tick)

    def _tick(self) -> None:
        """Do what is due."""
        assert self._loop is not None  # noqa: S101 - as above
        self._timer = None
        now = self._loop.time()
        try:
            self._expire(now)
            self._begin(now)
        finally:
            # Whatever goes wrong with one endpoint, the others are scraped on.
            self._wake_for_next(now)

    def _begin(self, now: float) -> None:
        """Begin the scrapes that are due."""
        if self._rhythm.adapts and self._in_use is not None and now >= self._next_look:
            self._look(self._in_use, now)
        due, until = self._due, now + self._early
        while due and due[0][0] <= until:
            planned, _, target = heapq.heappop(due)
            # Plans that were changed since are left in the heap.
            if planned == target.due and not target.scraping and not target.closed:
                target.due = min(planned, now)
                number = target.scrapes + 1
                self._deadlines.append((now + self._options.timeout, number, target))
                self._overdue.append((now + self._options.overdue, number, target))
                target.begin(now)

    def _wake_for_next(self, now: float) -> None:
        times = [queue[0][0] for queue in (self._due, self._deadlines, self._overdue) if queue]
        if self._rhythm.adapts and self._in_use is not None and self._targets:
            times.append(self._next_look)
        if self._early and self._deadlines and not self._rhythm.adapts:
            # Those that are being scraped are due again by then: one timer for all of them.
            times.append(now + self._rhythm.next(len(self._targets), failures=0, calm=0))
        if times:
            self._wake(min(times))

    def _expire(self, now: float) -> None:
        for target in _passed(self._overdue, now):
            target.miss()
        for target in _passed(self._deadlines, now):
            target.expire()

    def _look(self, in_use: Callable[[], Iterable[Endpoint]], now: float) -> None:
        """Scrape endpoints soon that are in use and were taken for idle."""
        interval = self._interval
        self._next_look = now + interval
        for endpoint in in_use():
            target = self._targets.get(endpoint.id)
            if target is not None:
                target.calm = 0
                soon = max(now, target.began + interval, now + target.allowance.pause(now))
                if not target.scraping and not target.failures and target.due > soon:
                    self._plan(target, soon)

    def _finished(self, target: Target) -> None:
        """Plan the next scrape of *target*."""
        assert self._loop is not None  # noqa: S101 - as above
        pause = self._rhythm.next(len(self._targets), failures=target.failures, calm=target.calm)
        # From when it was planned, so that being late by a tick does not add up.
        start = max(target.due, target.began - 2 * _TICK)
        now = self._loop.time()
        due, rested = max(start + pause, now), now + target.allowance.pause(now)
        if rested > due:
            target.postponed += 1
            self._log.tell_cost(target, rested - target.began)
            due = rested
        self._plan(target, due)
        self._log.tell(target)


def _check_intervals(options: ScrapingOptions, registry: EndpointRegistry) -> None:
    """Refuse intervals that leave metrics to become stale."""
    staleness = registry.staleness
    for name, interval in (("interval", options.interval), ("idle_interval", options.idle_interval)):
        if staleness is not None and interval is not None and interval >= staleness.threshold:
            message = (
                f"scraping: {name}: {interval!r} is not below the threshold from which on metrics are stale, "
                f"{staleness.threshold!r}"
            )
            raise ConfigurationError(message)


def _passed(times: deque[tuple[float, int, Target]], now: float) -> Iterator[Target]:
    """Take out what is over and what is past, and list those of which the same scrape is still under way."""
    while times:
        at, number, target = times[0]
        is_under_way = target.scraping and target.scrapes == number
        if is_under_way and at > now:
            return
        times.popleft()
        if is_under_way:
            yield target


def _is_same(endpoint: Endpoint, other: Endpoint) -> bool:
    """Tell whether two endpoints with one id are the same pod at the same address."""
    return (endpoint.destination, endpoint.pod_uid) == (other.destination, other.pod_uid)


def _scrapes_of(target: Target, now: float, threshold: float) -> EndpointScrapes:
    age = now - target.succeeded if target.succeeded is not None else None
    return EndpointScrapes(
        endpoint=target.endpoint,
        engine=target.reader.engine.name,
        age=age,
        stale=threshold < float("inf") and (target.lost or age is None or not 0 <= age <= threshold),
        reason=target.reason,
        failures=target.failures,
        missing=target.reader.missing,
        wrong=target.reader.wrong,
        scrapes=target.scrapes,
        fetch_errors=target.fetch_errors,
        read_errors=target.read_errors,
        cost=target.cost,
        postponed=target.postponed,
    )
