"""The table of outages: ``python -m benchmarks outages``, or ``python -m benchmarks.outages FAULT...`` for some."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from time import monotonic

import attrs

from benchmarks.measure import Row
from benchmarks.outages.server import ADAPTER
from benchmarks.outages.stack import FAULTS, LOADS, MODEL, Sent, Stack, running
from inferencepool import FailureMode

__all__ = ["measure_outages"]

_HEALTHY, _ILL, _AFTER = 4.0, 10.0, 13.0
# In the first second so many requests may fail that were under way, and so many percent of the others.
_UNDER_WAY, _PERCENT = 5, 5
# So many requests may fail behind the first second: probes come behind 2 and 4 seconds more, and under load a little
# later.
_PROBES = 3
# Arrivals are random, so a few requests may be missing.
_LEAST = 0.8
# How long it may take until it has about its share again, measured over so many seconds.
_BACK, _WINDOW, _ABOUT = 10.0, 2.0, 0.2


@attrs.frozen
class _Outage:
    """
    What came of one outage under one load.

    Attributes:
        began: When it began.
        sent: The requests that it concerns, by when they were sent.
        ill: The port of the server.
        share: The share of requests that Envoy sent, or tried to send, to the server after the first second; None
            where that does not tell, for it is ill for some of them.
        expected: How many requests were to be sent meanwhile; 0 for as many as come.
    """

    began: float
    sent: Sequence[Sent]
    ill: str
    share: float | None
    expected: float

    def failed(self, since: float, until: float) -> int:
        """Count the failed ones between two times since it began."""
        return sum(each.failed for each in self._between(since, until))

    def count(self, since: float, until: float) -> int:
        """Count all of them."""
        return len(self._between(since, until))

    def share_of_answers(self, since: float, until: float) -> float:
        """Tell the share of answers that came from the ill server."""
        answers = [each.server for each in self._between(since, until)]
        return answers.count(self.ill) / len(answers) if answers else 0.0

    def back_after(self) -> float | None:
        """Tell how many seconds after its end the server has about its share; None for never."""
        steps = [step / 4 for step in range(int((_AFTER - _WINDOW) * 4))]
        return next((at for at in steps if self.share_of_answers(_ILL + at, _ILL + at + _WINDOW) >= _ABOUT), None)

    def _between(self, since: float, until: float) -> list[Sent]:
        return [each for each in self.sent if since <= each.at - self.began < until]


def measure_outages(faults: Sequence[str] = FAULTS) -> Iterator[Row]:
    """Measure every fault under every load, for both failure modes; without detection for one that fails closed."""
    for fault in faults:
        yield from asyncio.run(_measure(fault))


async def _measure(fault: str) -> list[Row]:
    both = await asyncio.gather(*(_outages(fault, mode, detection=True) for mode in FailureMode))
    without = await _outages(fault, FailureMode.FAIL_CLOSE, detection=False)
    return [
        _row(f"{fault}, {mode.value}, {load}", ours[load], without[load])
        for mode, ours in zip(FailureMode, both, strict=True)
        for load in LOADS
    ]


async def _outages(fault: str, mode: FailureMode, *, detection: bool) -> dict[str, _Outage]:
    """Play a fault under all loads at once, each with servers, a picker and an Envoy of its own."""
    async with asyncio.TaskGroup() as group:
        tasks = {
            load: group.create_task(_outage(fault, mode, rate, detection=detection)) for load, rate in LOADS.items()
        }
    return {load: task.result() for load, task in tasks.items()}


async def _outage(fault: str, mode: FailureMode, rate: float, *, detection: bool) -> _Outage:
    # A server that loses an adapter goes on with half of the requests.
    models = (MODEL, ADAPTER) if fault == "adapter" else (MODEL,)
    async with running(mode, detection=detection, models=models) as stack:
        sending = asyncio.create_task(stack.load(rate, _HEALTHY + _ILL + _AFTER, int(rate)))
        began, share = await _play(stack, fault)
        await sending
        ill = stack.servers[0].rpartition(":")[2]
        if fault != "adapter":
            return _Outage(began, stack.sent, ill, share, rate * _ILL)
        concerned = [each for each in stack.sent if each.model == ADAPTER]
        return _Outage(began, concerned, ill, None, rate * _ILL / 2)


async def _play(stack: Stack, fault: str) -> tuple[float, float]:
    """Let the server be well, ill and well again; gives when it fell ill, and its share behind the first second."""
    await asyncio.sleep(_HEALTHY)
    began = monotonic()
    await stack.fall_ill(fault)
    await asyncio.sleep(1)
    before = await stack.asked()
    await asyncio.sleep(_ILL - (monotonic() - began))
    asked = [after - before[server] for server, after in (await stack.asked()).items()]
    await stack.recover(fault)
    await asyncio.sleep(_AFTER)
    return began, asked[0] / max(1, sum(asked))


def _row(name: str, ours: _Outage, without: _Outage) -> Row:
    # What was under way when it began was sent before.
    held, first = ours.failed(-_HEALTHY, 0), ours.failed(0, 1)
    later, back = ours.failed(1, _ILL), ours.back_after()
    allowed = _UNDER_WAY + _PERCENT / 100 * ours.count(0, 1)
    share = ours.share_of_answers(1, _ILL) if ours.share is None else ours.share
    lost = without.failed(0, _ILL) / max(1, without.count(0, _ILL))
    # With less than was meant to be sent, a row says nothing.
    is_fair = share <= 1 / 4 and ours.count(0, _ILL) >= _LEAST * ours.expected
    told = "never" if back is None else f"{back:.1f} s"
    return Row(
        f"one of four {name}",
        f"{held} that were under way failed, {first} of the first second, {later} later, of {ours.count(0, _ILL)};"
        f" back after {told}",
        f"no detection {lost:.0%} failed",
        f"{share:.1%} are sent there later",
        f"<= {allowed:.1f}, <= {_PROBES} probes, <= {_BACK:g} s",
        held + first <= allowed and later <= _PROBES and back is not None and back <= _BACK and is_fair,
    )
