"""What the pages of an endpoint may cost, by a clock that the test moves."""

from __future__ import annotations

import asyncio
import gzip
import logging
from itertools import count

import attrs
import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.scraping import ScrapingOptions, _turns
from inferencepool.runtime.scraping._allowance import Allowance
from inferencepool.runtime.scraping._answer import Answer
from inferencepool.runtime.scraping._target import Site, Target
from inferencepool.runtime.scraping._turns import Turns
from tests.patience import PATIENCE
from tests.runtime.scraping.servers import (
    PageServer,
    answer_with,
    endpoint_of,
    on_loop,
    page_of,
    response_of,
    scraped,
    until,
)

LORA = 'vllm:lora_requests_info{{max_lora="4",running_lora_adapters="a{0}",waiting_lora_adapters=""}} {0}\n'
LONG = page_of(7) + "".join(LORA.format(number) for number in range(10_000)).encode()


def clock_of(step: float) -> count[float]:
    """A clock that is later by *step* each time that it is looked at."""
    return count(0.0, step)


class TestAllowance:
    def test_share(self) -> None:
        """What was used beyond the reserve has to be waited for; the rest of the time does not count."""
        allowance = Allowance(0.1, 0.0)
        assert 0 == allowance.pause(0.0)
        allowance.charge(0.35)
        assert 2.5 == pytest.approx(allowance.pause(0.0))
        assert 1.5 == pytest.approx(allowance.pause(1.0))
        assert 0 == allowance.pause(2.6)

    def test_reserve_does_not_grow(self) -> None:
        """An endpoint that was cheap for a day may not be dear for an hour."""
        allowance = Allowance(0.1, 0.0)
        assert 0 == allowance.pause(86_400.0)
        allowance.charge(1.1)
        assert 10 == pytest.approx(allowance.pause(86_400.0))

    @pytest.mark.parametrize("most_share", [0, -1, 1.5, float("nan")])
    def test_refused(self, most_share: float) -> None:
        """A share is one."""
        with pytest.raises(ConfigurationError, match=r"scraping: most_share: .* is not a number above 0, up to 1"):
            ScrapingOptions(most_share=most_share)


@attrs.define(eq=False)
class Slices:
    """A page that takes so many slices."""

    name: str
    left: int
    log: list[str]

    def step(self) -> bool:
        """Read one."""
        self.log.append(self.name)
        self.left -= 1
        return self.left > 0


class TestTurns:
    @on_loop
    async def test_one_slice_in_a_round(self) -> None:
        """Whoever else has something to do has its turn after each slice, and pages are read in turn."""
        log: list[str] = []
        turns = Turns()
        for name, slices in (("a", 3), ("b", 1), ("c", 2)):
            assert turns.add(Slices(name, slices, log), 10)
        for _ in range(8):
            await asyncio.sleep(0)
            log.append("-")

        assert "a-b-c-a-c-a" == "".join(log).strip("-")

    @on_loop
    async def test_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No more bytes wait than may, and there is room again when pages are read."""
        monkeypatch.setattr(_turns, "_MOST_BYTES", 25)
        turns = Turns()
        log: list[str] = []
        added = [turns.add(Slices(name, 1, log), 10) for name in "abc"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        assert [True, True, False] == added
        assert turns.add(Slices("d", 1, log), 10)

    @on_loop
    async def test_errors(self) -> None:
        """An error in one page stops no other."""
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))

        class Wrong:
            def step(self) -> bool:
                raise KeyError

        turns, log = Turns(), list[str]()
        turns.add(Wrong(), 1)
        turns.add(Slices("a", 2, log), 1)
        for _ in range(4):
            await asyncio.sleep(0)

        assert ["a", "a"] == log
        assert [KeyError] == [type(error) for error in errors]


@on_loop
async def test_target_waits_once() -> None:
    """A page that was given up while it waited takes no slices of the next page of the same endpoint."""
    turns, looks = Turns(), list[float]()

    def clock() -> float:
        looks.append(0.0)
        return 0.0

    site = Site(EndpointRegistry(), PATIENT, None, memoryview(bytearray()), turns, clock, lambda _: None)
    target = Target(endpoint_of("a", 1), site, 0.0)
    for _ in range(3):
        target.scraping = True
        target.answered(Answer(200, {}, LONG), 0.0)
        target.expire()
    target.scraping = True
    target.answered(Answer(200, {}, LONG), 0.0)
    slices: list[int] = []
    for _ in range(20):
        log: list[str] = []
        turns.add(Slices("b", 1, log), 1)
        looks.clear()
        while not log:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        # The clock is looked at before and after each slice.
        slices.append(len(looks) // 2)

    assert {1} == set(slices)
    assert turns._bytes == len(LONG)
    target.close()


@on_loop
async def test_long_page_is_read_between_other_work() -> None:
    """A page of ten thousand series is read right, in many turns."""
    compressed = answer_with(response_of(gzip.compress(LONG), content_encoding="gzip"))
    for play in (answer_with(response_of(LONG)), compressed):
        async with PageServer(play) as server, scraped([endpoint_of("a", server.port)], PATIENT) as running:
            await until(lambda: running.metrics("a").active_models == {"a9999"})
            assert 7 == running.metrics("a").waiting_queue_size


PATIENT = ScrapingOptions(interval=0.01, timeout=PATIENCE, most_cost=60)


@on_loop
async def test_dear_endpoint_is_scraped_less_often(caplog: pytest.LogCaptureFixture) -> None:
    """Whose pages take more than their share is put off until it has grown again, and told once."""
    caplog.set_level(logging.WARNING, logger="inferencepool")
    clock = clock_of(0.1)
    async with (
        PageServer() as server,
        scraped([endpoint_of("a", server.port)], PATIENT, clock=clock.__next__) as running,
    ):
        await until(lambda: running.scrapes("a").postponed >= 2)
        scrapes = running.scrapes("a")
        target = running.scraper._targets["default/a"]
        told = [record.fields for record in caplog.records if record.getMessage() == "metrics page too costly"]  # type: ignore[attr-defined]  # set by log_event

        assert 0.1 == pytest.approx(scrapes.cost)
        assert target.due - target.began > 0.9
        assert ["default/a"] == [each["endpoint"] for each in told]
        assert "" == scrapes.reason
        assert running.scraper.statistics().postponed >= 2


@on_loop
async def test_page_that_takes_too_long_is_given_up() -> None:
    """More than one page may cost ends its scrape, with the reason, and the next page is read."""
    clock = clock_of(0.6)
    options = ScrapingOptions(interval=0.01, timeout=PATIENCE, most_share=1.0)
    async with (
        PageServer() as server,
        scraped([endpoint_of("a", server.port)], options, clock=clock.__next__) as running,
    ):
        await until(lambda: running.scrapes("a").failures >= 2)
        scrapes = running.scrapes("a")

        assert "the page takes more than 0.5 s of work" == scrapes.reason
        assert scrapes.fetch_errors == scrapes.failures
        assert running.scraper._site.turns._bytes == 0


@on_loop
async def test_reading_that_outlasts_the_timeout() -> None:
    """A page that is still being read when the time is over is let go."""
    options = ScrapingOptions(interval=0.01, timeout=0.001, most_cost=60)
    async with PageServer() as server, scraped([endpoint_of("a", server.port)], options) as running:
        server.page = LONG
        await until(lambda: "within 0.001 s" in running.scrapes("a").reason)
        await until(lambda: running.scraper._site.turns._bytes == 0)
