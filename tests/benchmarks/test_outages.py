"""The stage of the outages runs, and clients behind a real Envoy see of them what the table says."""

from __future__ import annotations

import asyncio
from time import monotonic

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
    sent = [Sent(100 + number / 10, 0 <= number < 5, "2" if 0 <= number < 100 else "1") for number in range(-40, 230)]
    row = _row("500", _Outage(100.0, sent, "1"), _Outage(100.0, sent, "2"))

    assert row.met
    assert row.ours.startswith("5 failed by the end of the first second, 0 later, of 100; back after ")
    assert "0% of answers are its" == row.ratio
