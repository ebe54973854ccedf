"""
What a gateway that picks in process loses to one of four endpoints that is Ready and ill.

``python -m benchmarks.outages.in_process`` prints the tables of the docs. Nothing here takes time: clock, requests and
model servers are events in a heap, so that the same seed gives the same table on any machine.
"""

from __future__ import annotations

import heapq
import sys
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Final

import attrs

from inferencepool import (
    Endpoint,
    EndpointMetrics,
    EndpointPicker,
    EndpointRegistry,
    InferenceRequest,
    NoEndpointsError,
)
from inferencepool.registry import OutlierDetection, Staleness
from inferencepool.scheduling import PickResult

__all__ = ["FAULTS", "LOADS", "Outcome", "Trial", "run"]

#: What becomes of one of four endpoints: it is dead; it hangs; it sticks, that is, hangs while its metrics page serves
#: what it served last; it is slow; or it answers at once with a status.
FAULTS: Final = ("dies", "hangs", "sticks", "5 x slower", "500", "429", "404")
_HOLDING: Final = ("hangs", "sticks")
#: Requests a second, or clients that each have one request on its way.
LOADS: Final = ("20/s", "60/s", "8 clients")

ENDPOINTS, MODEL = 4, "llama-3"
ILL_FROM, ILL_TO, END = 5.0, 17.0, 32.0
# A server runs so many requests at once; each takes so long, a quarter of it to its first byte.
_SLOTS, _SECONDS, _FIRST_BYTE = 8, (0.2, 0.6), 0.25
_AT_ONCE, _SCRAPES, _LATE = 0.002, 0.05, 5.0
# As `ScrapingOptions.overdue`: so late, an answer is waited for no longer.
_OVERDUE = 0.3
_WINDOW, _FAIR = 2.0, 0.2


@attrs.frozen
class Trial:
    """
    One outage.

    Attributes:
        fault: One of `FAULTS`.
        load: One of `LOADS`.
        retries: How many other endpoints a request is tried at.
        scraper: Whether metrics are scraped, every 50 ms, and are stale after two seconds, or once a page is overdue.
        detection: The rules; None for no detection.
        seed: Of everything.
    """

    fault: str
    load: str
    retries: int = 0
    scraper: bool = False
    detection: OutlierDetection | None = attrs.field(factory=OutlierDetection)
    seed: int = 1


@attrs.define
class Outcome:
    """
    What came of an outage. Times are when a request was picked for, in seconds since the outage began.

    Attributes:
        held: Requests that the endpoint had when the outage began.
        picks: When each pick was made during the outage or behind it, and whether it went to the ill endpoint.
        probes: When it was picked to probe it.
        failed: When those requests were picked first that failed for good.
        late: The same for those that took longer than five seconds.
    """

    held: int = 0
    picks: list[tuple[float, bool]] = attrs.field(factory=list)
    probes: list[float] = attrs.field(factory=list)
    failed: list[float] = attrs.field(factory=list)
    late: list[float] = attrs.field(factory=list)

    def share(self, since: float, until: float) -> float:
        """Tell the share of picks between two times that went to the endpoint."""
        chosen = [is_ill for at, is_ill in self.picks if since <= at < until]
        return sum(chosen) / len(chosen) if chosen else 0.0

    def unprobed(self, since: float, until: float) -> int:
        """Count the picks of the endpoint between two times that probed nothing."""
        return sum(is_ill for at, is_ill in self.picks if since <= at < until) - within(self.probes, since, until)

    def fair_after(self) -> float | None:
        """Tell after how many seconds of health its share is that of the others, about; None for not at all."""
        began = ILL_TO - ILL_FROM
        steps = [began + step / 10 for step in range(int((END - ILL_TO - _WINDOW) * 10))]
        return next((at - began for at in steps if self.share(at, at + _WINDOW) >= _FAIR), None)


def within(times: list[float], since: float, until: float) -> int:
    """Count *times* from *since* up to *until*."""
    return sum(since <= at < until for at in times)


@attrs.define(eq=False)
class _Server:
    """A model server: runs a few requests at once, the others wait."""

    running: set[_Attempt] = attrs.field(factory=set)
    waiting: deque[_Attempt] = attrs.field(factory=deque)
    frozen: list[Callable[[], None]] = attrs.field(factory=list)
    fault: str = ""

    def moves(self, event: Callable[[], None]) -> bool:
        """Tell whether it does anything; if not, *event* is for later."""
        if self.fault in _HOLDING:
            self.frozen.append(event)
        return self.fault not in _HOLDING


@attrs.define(eq=False)
class _Attempt:
    """A request at one server."""

    of: _Run
    server: _Server
    result: PickResult
    began: float
    again: bool

    def run(self) -> None:
        if self.server.moves(self.run):
            self.server.running.add(self)
            seconds = self.of.rng.uniform(*_SECONDS) * (5 if self.server.fault == "5 x slower" else 1)
            self.of.after(seconds * _FIRST_BYTE, self.begin)
            self.of.after(seconds, self.end)

    def begin(self) -> None:
        if self.server.moves(self.begin) and self in self.server.running:
            self.result.started()

    def end(self) -> None:
        if self.server.moves(self.end) and self in self.server.running:
            self.finish()

    def finish(self, failure: str = "") -> None:
        self.server.running.discard(self)
        if failure:
            self.of.fail(self.result, failure, self.began, again=self.again)
        else:
            self.result.release()
            self.of.over(self.began, again=self.again)
        if self.server.waiting and len(self.server.running) < _SLOTS:
            self.server.waiting.popleft().run()


@attrs.define(eq=False, slots=False)
class _Run:
    trial: Trial
    now: float = 0.0
    outcome: Outcome = attrs.field(factory=Outcome)
    servers: list[_Server] = attrs.field(factory=lambda: [_Server() for _ in range(ENDPOINTS)])
    _events: list[tuple[float, int, Callable[[], None]]] = attrs.field(factory=list)
    _number: Iterator[int] = attrs.field(factory=count)

    def __attrs_post_init__(self) -> None:
        trial = self.trial
        self.rng = Random(trial.seed)
        self.registry = EndpointRegistry(
            clock=lambda: self.now,
            staleness=Staleness(2.0) if trial.scraper else None,
            outlier_detection=trial.detection,
            rng=Random(trial.seed),
        )
        self.endpoints = [
            Endpoint(namespace="default", pod_name=f"s{index}", address=f"192.0.2.{index + 1}", port=8000)
            for index in range(ENDPOINTS)
        ]
        self.registry.set_endpoints(self.endpoints)
        self.picker = EndpointPicker(self.registry, rng=Random(trial.seed))

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._number), event))

    def play(self) -> Outcome:
        self.after(ILL_FROM, self.fall_ill)
        self.after(ILL_TO, self.recover)
        if self.trial.scraper:
            self.scrape()
        if self.trial.load == "8 clients":
            for _ in range(8):
                self.ask(again=True)
        else:
            self.tick(1 / int(self.trial.load.removesuffix("/s")))
        while self._events and self._events[0][0] < END:
            self.now, _, event = heapq.heappop(self._events)
            event()
        return self.outcome

    def tick(self, interval: float) -> None:
        self.ask()
        self.after(interval, lambda: self.tick(interval))

    def scrape(self) -> None:
        for endpoint, server in zip(self.endpoints, self.servers, strict=True):
            if server.fault == "dies" or (server.fault == "hangs" and self.now >= ILL_FROM + _OVERDUE):
                self.registry.lose(endpoint)
            elif server.fault != "hangs":
                held = len(server.running) + len(server.waiting)
                metrics = EndpointMetrics(
                    waiting_queue_size=len(server.waiting),
                    running_requests=len(server.running),
                    kv_cache_usage=min(1.0, held / (2 * _SLOTS)),
                    observed_at=self.now,
                )
                self.registry.observe_metrics(endpoint, metrics)
        self.after(_SCRAPES, self.scrape)

    def fall_ill(self) -> None:
        ill = self.servers[0]
        ill.fault = self.trial.fault
        self.outcome.held = len(ill.running) + len(ill.waiting)
        if ill.fault == "dies":
            # Sets of objects have no order that lasts.
            lost = [*sorted(ill.running, key=lambda attempt: attempt.began), *ill.waiting]
            ill.running.clear()
            ill.waiting.clear()
            for attempt in lost:
                attempt.finish("reset")

    def recover(self) -> None:
        ill = self.servers[0]
        ill.fault = ""
        thawed, ill.frozen = ill.frozen, []
        for event in thawed:
            event()

    # A request: asked for, sent, begun, ended; where it fails, sent elsewhere or given up.

    def ask(self, *, again: bool = False) -> None:
        began = self.now
        result = self.note(lambda: self.picker.pick(InferenceRequest(model=MODEL)))
        assert result is not None
        self.send(result, began, again=again)

    def note(self, pick: Callable[[], PickResult]) -> PickResult | None:
        """Pick, and write down whether that was the ill endpoint, and whether it probes it."""
        try:
            result = pick()
        except NoEndpointsError:
            return None
        at, is_ill = self.now - ILL_FROM, result.endpoint is self.endpoints[0]
        if at >= 0:
            self.outcome.picks.append((at, is_ill))
            if is_ill and any(members >> result.slot & 1 for members in result.snapshot.probing.values()):
                self.outcome.probes.append(at)
        return result

    def send(self, result: PickResult, began: float, *, again: bool) -> None:
        server = self.servers[self.endpoints.index(result.endpoint)]
        attempt = _Attempt(self, server, result, began, again)
        if server.fault == "dies":
            self.after(_AT_ONCE, lambda: attempt.finish("connect-failure"))
        elif server.fault.isdecimal():
            status = server.fault
            self.after(_AT_ONCE, lambda: attempt.finish(status))
        elif len(server.running) < _SLOTS:
            attempt.run()
        else:
            server.waiting.append(attempt)

    def fail(self, result: PickResult, failure: str, began: float, *, again: bool) -> None:
        reason = int(failure) if failure.isdecimal() else failure
        if len(result.excluded) < self.trial.retries:
            other = self.note(lambda: result.retry(reason))
            if other is not None:
                self.send(other, began, again=again)
                return
        result.failed(reason)
        self.outcome.failed.append(began - ILL_FROM)
        self.over(began, again=again)

    def over(self, began: float, *, again: bool) -> None:
        if self.now - began > _LATE:
            self.outcome.late.append(began - ILL_FROM)
        if again:
            self.ask(again=True)


def run(trial: Trial) -> Outcome:
    """Play *trial*."""
    return _Run(trial).play()


def _row(fault: str, load: str, *, scraper: bool) -> str:
    ours = run(Trial(fault, load, scraper=scraper))
    none = run(Trial(fault, load, scraper=scraper, detection=None))
    tried = run(Trial(fault, load, retries=2, scraper=scraper))
    over = ILL_TO - ILL_FROM
    bad = "late" if fault in {*_HOLDING, "5 x slower"} else "failed"
    failed: list[list[float]] = [getattr(each, bad) for each in (none, ours, tried)]
    asked = sum(0 <= at < over for at, _ in none.picks), sum(0 <= at < over for at, _ in ours.picks)
    fair = ours.fair_after()
    cells = [
        fault,
        load,
        f"{none.share(0, over):.0%}",
        f"{len(failed[0]) / asked[0]:.0%}",
        str(ours.held),
        f"{ours.share(0, 1):.0%}",
        str(within(failed[1], -ILL_FROM, 1)),
        f"{ours.share(1, over):.1%}",
        str(ours.unprobed(1, over)),
        str(within(ours.probes, 0, over)),
        str(within(failed[1], 1, END)),
        str(len(failed[2])),
        "no" if fair is None else f"{fair:.1f} s",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Print the tables."""
    for scraper in (False, True):
        print(f"\n{'With' if scraper else 'Without'} a scraper\n")
        print(
            "| One of four | Load | off: share | off: failed | held | first second: share | failed "
            "| later: share | picks | probes | failed | with retries: failed | fair again |"
        )
        print("|---" * 13 + "|")
        for fault in FAULTS:
            for load in LOADS:
                print(_row(fault, load, scraper=scraper))
    return 0


if __name__ == "__main__":
    sys.exit(main())
