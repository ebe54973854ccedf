"""The stage of the outages runs, and clients behind a real Envoy see of them what the table says."""

from __future__ import annotations

import asyncio
from time import monotonic

import attrs
import pytest

from benchmarks.outages.measuring import _Outage, _row
from benchmarks.outages.stack import Sent, running
from inferencepool import FailureMode


@pytest.mark.parametrize("fault", ["dies", "429"])
def test_requests_survive_an_endpoint_that_is_ill(fault: str) -> None:
    """Where the pool fails closed, too, what is sent a second after the outage began is served, but for a probe."""

    async def scenario() -> tuple[float, list[Sent], str]:
        async with running(FailureMode.FAIL_CLOSE, detection=True, timeout=100.0) as stack:
            sending = asyncio.create_task(stack.load(30.0, 5.0, 1))
            await asyncio.sleep(2.0)
            await stack.fall_ill(fault)
            began = monotonic()
            await sending
            return began, stack.sent, stack.servers[0].rpartition(":")[2]

    began, sent, ill = asyncio.run(scenario())

    assert len(sent) > 50
    assert any(each.server == ill and not each.failed for each in sent if each.at < began)
    later = [each for each in sent if each.at > began + 1]
    assert 2 >= sum(each.failed for each in later), later
    assert 2 >= sum(each.server == ill for each in later), later


def test_rows() -> None:
    """A row tells failures of the first second from later ones, and when the server is back."""
    sent = [
        Sent(100 + number / 10, "llama-3", 0 <= number < 5, "2" if 0 <= number < 100 else "1")
        for number in range(-40, 230)
    ]
    ours, without = _Outage(100.0, sent, "1", 0.01, 100.0), _Outage(100.0, sent, "2", 0.5, 100.0)
    row = _row("500", ours, without)

    assert row.met
    assert row.ours.startswith("0 that were under way failed, 5 of the first second, 0 later, of 100; back after ")
    assert "1.0% are sent there later" == row.ratio
    assert not _row("500", without, without).met
    assert not _row("500", attrs.evolve(ours, expected=200.0), without).met
