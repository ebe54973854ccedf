"""What ``demo`` found out, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from inferencepool.cli._output import columns
from inferencepool.scheduling import Explanation

if TYPE_CHECKING:
    from inferencepool.lab.commands._demo_pool import Kill

__all__ = ["DemoReport", "Way", "percentile"]

_NOTHING = "-"


def percentile(values: Sequence[float], share: float) -> float | None:
    """Give the least of *values* that *share* of them do not exceed; None without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


@attrs.frozen(kw_only=True)
class Way:
    """
    One way through Envoy: with the picker, or in turn.

    Attributes:
        served_by: How many requests each server answered.
        seconds: How long each request took.
        failed: How many failed, by what came instead.
        queues: Mean queue of each server.
        cached: Share of the tokens of prompts that were in a cache.
        overheads: Seconds between client and server, of requests sent one at a time.
    """

    served_by: Mapping[str, int]
    seconds: Sequence[float]
    failed: Mapping[str, int]
    queues: Mapping[str, float]
    cached: float
    overheads: Sequence[float]

    def to_dict(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        return {
            "answered": len(self.seconds),
            "failed": dict(self.failed),
            "latency_ms": _milliseconds(self.seconds),
            "cached_share": round(self.cached, 4),
            "overhead_ms": _milliseconds(self.overheads),
        }


@attrs.frozen(kw_only=True)
class DemoReport:
    """
    What the demonstration found out.

    Attributes:
        speeds: The servers by address, with their speeds.
        concurrency: Requests at a time.
        picked: With the picker.
        direct: In turn.
        explanation: Why one request went where it went.
        killed: The server that was ended half-way with the picker; None when none was.
        fails_open: Whether the pool fails open.
    """

    speeds: Mapping[str, float]
    concurrency: int
    picked: Way
    direct: Way
    explanation: Explanation | None
    killed: Kill | None = None
    fails_open: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether more requests failed than may: those that a server had which was ended, if the pool fails closed."""
        spared = self.killed.in_flight if self.killed is not None and not self.fails_open else 0
        return sum(self.picked.failed.values()) > spared or bool(self.direct.failed)

    @property
    def added(self) -> dict[str, float | None]:
        """What the picker adds to a request's time, in milliseconds."""
        picked, direct = _milliseconds(self.picked.overheads), _milliseconds(self.direct.overheads)
        return {key: _difference(picked[key], direct[key]) for key in picked}

    def to_dict(self) -> dict[str, Any]:
        """Give it ready for JSON."""
        return {
            "servers": [
                {
                    "address": address,
                    "speed": speed,
                    **{
                        name: {"requests": way.served_by.get(address, 0), "mean_queue": round(way.queues[address], 3)}
                        for name, way in (("picked", self.picked), ("round_robin", self.direct))
                    },
                }
                for address, speed in self.speeds.items()
            ],
            "concurrency": self.concurrency,
            "picked": self.picked.to_dict(),
            "round_robin": self.direct.to_dict(),
            "added_ms": self.added,
            "killed": {"address": self.killed.address, "in_flight": self.killed.in_flight} if self.killed else None,
            "explanation": self.explanation.to_dict() if self.explanation is not None else None,
        }

    def lines(self) -> Iterator[str]:
        """Give it as text, 80 columns wide."""
        yield "Where the requests went, with the endpoint picker and in turn:"
        yield ""
        yield from columns(_server_rows(self))
        yield ""
        yield f"How long they took, {self.concurrency} at a time, in milliseconds, and how much of their"
        yield "prompts was in the cache of the server:"
        yield ""
        ways = (("picked", self.picked), ("in turn", self.direct))
        rows = [(name, *_cells(_milliseconds(way.seconds)), f"{way.cached:.0%}") for name, way in ways]
        yield from columns([("", "p50", "p99", "cached"), *rows])
        for name, way in ways:
            for reason, count in sorted(way.failed.items()):
                yield f"  {name}: {count} failed: {reason}"
        yield from self._lines_about_killed()
        yield ""
        yield "Between client and server, one request at a time, in milliseconds:"
        yield ""
        rows = [(name, *_cells(_milliseconds(way.overheads))) for name, way in ways]
        # The p99 of so few requests is their slowest: the difference of two such says nothing.
        yield from columns([("", "p50", "p99"), *rows, ("added by the picker", next(_cells(self.added)), "")])
        yield ""
        yield "  Client, picker and servers share one process here: on machines of their own"
        yield "  they wait less for each other."
        if self.explanation is not None:
            yield ""
            yield from _explain(self.explanation)

    def _lines_about_killed(self) -> Iterator[str]:
        if self.killed is None:
            return
        failed = sum(self.picked.failed.values())
        yield ""
        yield f"Half-way with the picker {self.killed.address} was ended, with {self.killed.in_flight} requests on"
        yield f"their way to it, and {failed or 'none'} failed. Envoy asks the fallbacks of a pick when a"
        if self.fails_open:
            yield "server is not there, and when one that had the request went without an answer."
        else:
            yield "server is not there; what one had when it went is sent again in a pool that"
            yield "fails open only (--failure-mode FailOpen)."


def _milliseconds(seconds: Sequence[float]) -> dict[str, float | None]:
    shares = {"p50": percentile(seconds, 0.5), "p99": percentile(seconds, 0.99)}
    return {key: round(value * 1000, 3) if value is not None else None for key, value in shares.items()}


def _difference(one: float | None, other: float | None) -> float | None:
    return round(one - other, 3) if one is not None and other is not None else None


def _cells(values: Mapping[str, float | None]) -> Iterator[str]:
    return (f"{value:.1f}" if value is not None else _NOTHING for value in values.values())


def _server_rows(report: DemoReport) -> Iterator[tuple[str, ...]]:
    yield ("", "", "picked", "", "mean", "in turn", "", "mean")
    yield ("server", "speed", "requests", "share", "queue", "requests", "share", "queue")
    for address, speed in report.speeds.items():
        cells: list[str] = []
        for way in (report.picked, report.direct):
            count = way.served_by.get(address, 0)
            share = count / max(1, len(way.seconds))
            cells += [str(count), f"{share:.1%}", f"{way.queues[address]:.2f}"]
        yield (address, f"{speed:g}", *cells)


def _explain(explanation: Explanation) -> Iterator[str]:
    yield f"Why one of them went to {explanation.picked.endpoint.destination}:"
    yield ""
    names = [f"{_short(score.name)} x{score.weight:g}" for score in explanation.picked.scores]
    rows = [
        (
            candidate.endpoint.destination,
            {None: "", 1: "picked"}.get(candidate.place, "next"),
            str(candidate.pending),
            *(f"{score.score:z.3f}" for score in candidate.scores),
            f"{candidate.total:z.3f}",
        )
        for candidate in explanation.candidates
    ]
    yield from columns([("server", "", "pending", *names, "total"), *rows])


def _short(name: str) -> str:
    """Shorten a scorer's name, so that those of the default profile fit beside each other."""
    for suffix in ("-scorer", "-utilization", "-cache"):
        name = name.removesuffix(suffix)
    return name
