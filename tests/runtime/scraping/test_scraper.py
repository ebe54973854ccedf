"""Scraping servers that behave."""

from __future__ import annotations

import asyncio
import gzip
import logging
import threading
from itertools import count

import pytest

from inferencepool.adapters.exposition import ENGINES, Engine, Engines
from inferencepool.errors import ConfigurationError
from inferencepool.lab.model_servers import ModelServerSimulator, SimulatorOptions
from inferencepool.model import Endpoint, EndpointMetrics, InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry, MembershipChange, Staleness
from inferencepool.runtime.scraping import MetricsScraper, ScrapingOptions
from tests.patience import PATIENCE
from tests.runtime.scraping.servers import (
    LOOPBACK,
    PageServer,
    answer_with,
    endpoint_of,
    on_loop,
    page_of,
    read_request,
    response_of,
    scraped,
    serve_pages,
    until,
)


class TestPages:
    @on_loop
    async def test_metrics_arrive(self) -> None:
        """What a page tells is what the registry knows, again and again, over one connection."""
        async with PageServer() as server, scraped([endpoint_of("a", server.port)]) as running:
            for waiting in (1, 2, 3):
                server.page = page_of(waiting, 4, 0.5)
                await running.next_page("a")
                metrics = await running.next_page("a")
                assert (waiting, 4, 0.5) == (
                    metrics.waiting_queue_size,
                    metrics.running_requests,
                    metrics.kv_cache_usage,
                )
            assert not running.is_stale("a")
            assert 1 == server.connections
            scrapes = running.scrapes("a")
            assert ("vllm", "", 0, False, ()) == (
                scrapes.engine,
                scrapes.reason,
                scrapes.failures,
                scrapes.stale,
                scrapes.missing,
            )
            assert scrapes.age is not None
            assert (
                server.requests[0]
                == (
                    f"GET /metrics HTTP/1.1\r\nhost: {LOOPBACK}:{server.port}\r\n"
                    "accept: text/plain;version=0.0.4,*/*;q=0.1\r\naccept-encoding: identity\r\n"
                    "user-agent: inferencepool\r\n\r\n"
                ).encode()
            )

    @on_loop
    async def test_simulated_server(self) -> None:
        """A simulated model server is read whole, its adapters included."""
        options = SimulatorOptions(models=["m"], adapters=["x"], kv_blocks=64)
        async with ModelServerSimulator(options) as server, scraped([endpoint_of("a", server.port)]) as running:
            metrics = await running.next_page("a")
            assert 64 == metrics.cache_num_blocks
            assert () == running.scrapes("a").missing

    @on_loop
    async def test_observed_when_the_scrape_began(self) -> None:
        """A pick that is made while the page is on its way is not taken to be part of it."""
        asked, go = asyncio.Event(), asyncio.Event()

        async def play(server: PageServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await read_request(server, reader):
                asked.set()
                await go.wait()
                writer.write(response_of(page_of()))

        options = ScrapingOptions(interval=0.01, timeout=PATIENCE)
        async with PageServer(play) as server, scraped([endpoint_of("a", server.port)], options) as running:
            picker = EndpointPicker(running.registry)
            await asked.wait()
            result = picker.pick(InferenceRequest())
            go.set()
            await until(lambda: running.metrics("a").observed_at is not None)
            first = running.metrics("a").observed_at
            assert first is not None
            assert first <= result.picked_at
            await running.next_page("a")
            later = picker.pick(InferenceRequest()).explain()
            assert 0 == later.picked.pending

    @on_loop
    async def test_engine_by_label_and_its_change(self) -> None:
        """The pod's label says whose metrics are looked for, also when it changes."""
        page = page_of(1) + b"sglang:num_queue_reqs 7\nmine 9\n"
        mine = Engine(name="mine", queued_requests="mine")
        options = ScrapingOptions(interval=0.01, timeout=PATIENCE, engines=Engines(own=[mine]))
        async with PageServer() as server:
            server.page = page
            labelled = [
                endpoint_of("a", server.port, {"llm-d.ai/engine-type": name}) for name in ("vllm", "sglang", "mine")
            ]
            async with scraped(labelled[:1], options) as running:
                for endpoint, waiting in zip(labelled, (1, 7, 9), strict=True):
                    running.registry.set_endpoints([endpoint])
                    while (await running.next_page("a")).waiting_queue_size != waiting:
                        pass
                assert 1 == server.connections

    @on_loop
    async def test_compressed(self) -> None:
        """Compressed pages are asked for where that is wanted, and read in any case."""
        response = response_of(gzip.compress(page_of(6)), content_encoding="gzip")
        async with PageServer(answer_with(response)) as server:
            for wanted in (False, True):
                options = ScrapingOptions(interval=0.01, timeout=PATIENCE, gzip=wanted)
                async with scraped([endpoint_of("a", server.port)], options) as running:
                    assert 6 == (await running.next_page("a")).waiting_queue_size
            assert b"accept-encoding: identity" in server.requests[0]
            assert b"accept-encoding: gzip" in server.requests[-1]

    @on_loop
    async def test_port_and_path(self) -> None:
        """The page may be at another port and path than requests."""
        async with PageServer() as server:
            server.page = page_of(3)
            options = ScrapingOptions(interval=0.01, timeout=PATIENCE, port=server.port, path="/x?y=z")
            async with scraped([endpoint_of("a", 1)], options) as running:
                assert 3 == (await running.next_page("a")).waiting_queue_size
            assert server.requests[0].startswith(b"GET /x?y=z HTTP/1.1\r\n")

    @on_loop
    async def test_partial_page(self, caplog: pytest.LogCaptureFixture) -> None:
        """What a page lacks keeps its value, what is no number is unknown, and both are told once."""
        caplog.set_level(logging.WARNING)
        async with PageServer() as server, scraped([endpoint_of("a", server.port)]) as running:
            server.page = page_of(1, 2, 0.5)
            await running.next_page("a")
            server.page = b"vllm:num_requests_waiting 5\nvllm:num_requests_running NaN\n"
            await until(lambda: running.metrics("a").waiting_queue_size == 5)
            metrics, scrapes = await running.next_page("a"), running.scrapes("a")

            assert (0, 0.5) == (metrics.running_requests, metrics.kv_cache_usage)
            assert ("vllm:kv_cache_usage_perc", "vllm:cache_config_info") == scrapes.missing
            assert {"running_requests"} == metrics.unknown
            assert ["running_requests"] == list(scrapes.wrong)
            assert not scrapes.reason
        assert 1 == [record.getMessage() for record in caplog.records].count("metrics incomplete")


class TestConnections:
    @on_loop
    async def test_server_that_closes_after_each_page(self) -> None:
        """Servers of HTTP/1.0 hang up after each page, and are connected to again."""
        response = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + page_of(4)
        play = answer_with(response, close=True)
        async with PageServer(play) as server, scraped([endpoint_of("a", server.port)]) as running:
            for _ in range(5):
                assert 4 == (await running.next_page("a")).waiting_queue_size
            assert 0 == running.scrapes("a").fetch_errors
            assert server.connections >= 5

    @on_loop
    async def test_server_that_closes_idle_connections(self) -> None:
        """A connection that is closed in the moment in which it is used again is no failure."""

        async def play(server: PageServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await read_request(server, reader)
            writer.write(response_of(page_of(server.connections)))
            # The next request arrives, and is never answered.
            await read_request(server, reader)

        async with PageServer(play) as server, scraped([endpoint_of("a", server.port)]) as running:
            await until(lambda: running.metrics("a").waiting_queue_size >= 4)
            assert 0 == running.scrapes("a").fetch_errors

    @on_loop
    async def test_response_that_nobody_asked_for(self) -> None:
        """A server that sends more than was asked for is connected to again, and its surplus is thrown away."""

        async def play(server: PageServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await read_request(server, reader):
                writer.write(response_of(page_of(1)))
                await writer.drain()
                # Both ways: with the answer, and when that one was read.
                await asyncio.sleep(0.05 * (server.connections % 2))
                writer.write(response_of(page_of(9)))

        options = ScrapingOptions(interval=0.2, timeout=PATIENCE)
        async with PageServer(play) as server, scraped([endpoint_of("a", server.port)], options) as running:
            await until(lambda: server.connections >= 4)
            assert 1 == running.metrics("a").waiting_queue_size

    @on_loop
    async def test_server_that_starts_again(self) -> None:
        """A server that went and came back is scraped soon after."""
        server = PageServer()
        async with server:
            port = server.port
            async with scraped([endpoint_of("a", port)]) as running:
                await running.next_page("a")
                await server.__aexit__()
                await until(lambda: running.is_stale("a"))
                assert "no connection: " in running.scrapes("a").reason
                server.page = page_of(8)
                await server.__aenter__()
                await until(lambda: running.metrics("a").waiting_queue_size == 8)
                assert not running.is_stale("a")

    @on_loop
    async def test_nothing_is_left_open(self) -> None:
        """When the scraper ends, every connection is closed."""
        async with PageServer() as server:
            async with scraped([endpoint_of(str(number), server.port) for number in range(20)]):
                await until(lambda: server.open == 20)
            await until(lambda: server.open == 0)


class TestMembership:
    @on_loop
    async def test_endpoints_come_and_go(self) -> None:
        """One that comes is scraped at once, and one that goes no longer; the others keep their connections."""
        async with PageServer() as first, PageServer() as second:
            one, two = endpoint_of("one", first.port), endpoint_of("two", second.port)
            async with scraped([one]) as running:
                await running.next_page("one")
                running.registry.set_endpoints([one, two])
                await running.next_page("two")
                running.registry.set_endpoints([two])
                await until(lambda: not first.open)
                asked = len(first.requests)
                for _ in range(5):
                    await running.next_page("two")
                assert asked == len(first.requests)
                assert ["default/two"] == [each.endpoint.id for each in running.scraper.statistics().endpoints]
                assert running.scraper.statistics().scrapes >= asked
            assert 1 == second.connections

    @on_loop
    async def test_late_page_of_an_earlier_pod(self) -> None:
        """A page of a pod that was replaced by another of its name does not count for that one."""
        asked, go = asyncio.Event(), asyncio.Event()

        async def late(server: PageServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(server, reader)
            asked.set()
            await go.wait()
            writer.write(response_of(page_of(99)))

        async with PageServer(late) as old, PageServer() as new:
            new.page = page_of(1)
            async with scraped([endpoint_of("a", old.port, uid="1")]) as running:
                await asked.wait()
                running.registry.set_endpoints([endpoint_of("a", new.port, uid="2")])
                go.set()
                assert 1 == (await running.next_page("a")).waiting_queue_size
                for _ in range(3):
                    assert 1 == (await running.next_page("a")).waiting_queue_size

    @on_loop
    async def test_changes_in_other_threads(self) -> None:
        """Threads may change the fleet and ask for statistics while it is scraped."""
        async with PageServer() as server, scraped([]) as running:
            rounds, stop = count(), threading.Event()

            def change() -> None:
                while not stop.is_set():
                    number = next(rounds)
                    names = [f"{kind}{number % kind}" for kind in (2, 3, 5, 7)]
                    running.registry.set_endpoints(
                        endpoint_of(name, server.port, uid=str(number // 100)) for name in names
                    )
                    running.scraper.statistics()
                    stop.wait(0.01)

            threads = [threading.Thread(target=change) for _ in range(3)]
            for thread in threads:
                thread.start()
            try:
                await until(lambda: next(rounds) > 300 and len(server.requests) > 50)
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            running.registry.set_endpoints([endpoint_of("last", server.port)])
            await running.next_page("last")
            assert ["default/last"] == [each.endpoint.id for each in running.scraper.statistics().endpoints]
            await until(lambda: server.open == 1)

    @on_loop
    async def test_changes_after_the_end(self) -> None:
        """A registry outlives its scraper."""
        async with PageServer() as server:
            async with scraped([]) as running:
                pass
            running.registry.set_endpoints([endpoint_of("a", server.port)])
            running.scraper._hear(MembershipChange())
        assert not server.connections

    @on_loop
    async def test_thousand_endpoints(self, caplog: pytest.LogCaptureFixture) -> None:
        """A thousand endpoints are all scraped, no more often together than was allowed, and the log says so."""
        async with PageServer(serve_pages) as server:
            endpoints = [endpoint_of(str(number), server.port) for number in range(1000)]
            # What a page costs is told by a clock, which runs on while other processes have the processor.
            options = ScrapingOptions(timeout=PATIENCE, most_per_second=2000, most_cost=20, most_share=1)
            async with scraped(endpoints, options, threshold=0.5) as running:
                assert 0.5 == running.scraper.statistics().interval
                assert ["too many endpoints to keep fresh"] == [record.getMessage() for record in caplog.records]
                await until(lambda: all(each.age is not None for each in running.scraper.statistics().endpoints))
                # They are kept; on a busy machine some are reset while they wait to be accepted.
                assert 1000 <= server.connections < 1100
                running.registry.set_endpoints(endpoints[:10])
                await until(lambda: server.open == 10)


class TestAdaptiveIntervals:
    options = ScrapingOptions(interval=0.02, idle_interval=600, timeout=PATIENCE)

    @on_loop
    async def test_idle_endpoint_is_asked_rarely_and_a_pick_ends_that(self) -> None:
        """The pauses of an idle endpoint grow; a pick is followed by a scrape long before the pause would end."""
        in_use: list[Endpoint] = []
        async with PageServer() as server:
            endpoint = endpoint_of("a", server.port)
            async with scraped([endpoint], self.options, threshold=1000, in_use=lambda: in_use) as running:
                await until(lambda: running.scraper._targets)
                target = running.scraper._targets["default/a"]
                await until(lambda: target.calm >= 7 and not target.scraping)
                assert target.due - target.began > 2
                asked = len(server.requests)
                in_use.append(endpoint)
                # If it had been left idle, the pauses before these would have doubled, and taken minutes.
                await until(lambda: len(server.requests) >= asked + 7)

    @on_loop
    async def test_busy_endpoint_is_asked_often(self) -> None:
        """An endpoint whose page shows requests keeps its interval, whoever sent them."""
        async with PageServer() as server:
            server.page = page_of(running=1)
            endpoint = endpoint_of("a", server.port)
            async with scraped([endpoint], self.options, threshold=1000, in_use=lambda: ()) as running:
                await until(lambda: len(server.requests) > 20)
                assert 0 == running.scraper._targets["default/a"].calm

    @on_loop
    async def test_mistake_of_the_caller(self, caplog: pytest.LogCaptureFixture) -> None:
        """When nobody can tell which endpoints are in use, they are scraped on."""

        def fail() -> tuple[Endpoint, ...]:
            message = "as it was told"
            raise LookupError(message)

        async with PageServer() as server:
            server.page = page_of(running=1)
            async with scraped([endpoint_of("a", server.port)], self.options, threshold=1000, in_use=fail) as running:
                await until(lambda: len(server.requests) > 5)
                assert running.scrapes("a").age is not None
        assert any(record.exc_info and record.exc_info[0] is LookupError for record in caplog.records)

    @on_loop
    async def test_with_a_picker(self) -> None:
        """The endpoints with picks in flight are in use, until they are released."""
        async with PageServer() as server:
            endpoint = endpoint_of("a", server.port)
            registry = EndpointRegistry(staleness=Staleness())
            registry.set_endpoints([endpoint])
            picker = EndpointPicker(registry)
            assert () == picker.endpoints_in_flight()
            result = picker.pick(InferenceRequest())
            assert (endpoint,) == picker.endpoints_in_flight()
            result.release()
            assert () == picker.endpoints_in_flight()


@pytest.mark.parametrize("options", [ScrapingOptions(interval=3), ScrapingOptions(idle_interval=2)])
def test_intervals_that_make_metrics_stale(options: ScrapingOptions) -> None:
    """An interval must be below the staleness threshold, if there is one."""
    MetricsScraper(EndpointRegistry(), options=options)
    with pytest.raises(ConfigurationError, match=r"scraping: .*interval: . is not below the threshold .*, 2.0"):
        MetricsScraper(EndpointRegistry(staleness=Staleness(2.0)), options=options)


class TestClock:
    @on_loop
    async def test_clock_that_steps_back(self) -> None:
        """When the registry's clock steps back, new pages count all the same."""
        offset = [1e6]
        registry = EndpointRegistry(
            clock=lambda: asyncio.get_running_loop().time() + offset[0], staleness=Staleness(0.5)
        )
        async with PageServer() as server:
            registry.set_endpoints([endpoint_of("a", server.port)])
            scraper = MetricsScraper(registry, options=ScrapingOptions(interval=0.01))
            task = asyncio.create_task(scraper.run())
            await until(lambda: registry.publish().metrics[0].observed_at is not None)
            offset[0] -= 5e5
            server.page = page_of(5)
            # A scrape that was under way may still tell a time that is in the future by now.
            await until(lambda: registry.current()[0].waiting_queue_size[0] == 5 and not registry.current()[0].stale)
            task.cancel()
            await asyncio.wait([task])


def test_metrics_by_endpoint() -> None:
    """A registry takes metrics for an endpoint only as long as that very pod has the name."""
    registry = EndpointRegistry(clock=count().__next__)
    old, new = endpoint_of("a", 1, uid="1"), endpoint_of("a", 1, uid="2")
    registry.set_endpoints([new])

    assert not registry.observe_metrics(old, EndpointMetrics())
    assert registry.observe_metrics(new, EndpointMetrics())
    assert registry.observe_metrics(endpoint_of("a", 1, {"x": "y"}, uid="2"), EndpointMetrics())


class TestPlaceOfThePage:
    @on_loop
    async def test_path_of_the_engine(self) -> None:
        """The path and the engine of a pod follow from its label, and an option overrides the path."""
        label = {"llm-d.ai/engine-type": "trtllm-serve"}
        for path, expected in ((None, b"/prometheus/metrics"), ("/m", b"/m")):
            async with PageServer() as server:
                server.page = b"trtllm_num_requests_waiting 4\ntrtllm_num_requests_running 1\n"
                options = ScrapingOptions(interval=0.01, timeout=PATIENCE, path=path)
                async with scraped([endpoint_of("a", server.port, label)], options) as found:
                    assert 4 == (await found.next_page("a")).waiting_queue_size
                assert server.requests[0].startswith(b"GET " + expected + b" HTTP/1.1")

    @on_loop
    async def test_port_of_the_engine(self) -> None:
        """The port is the engine's where it has one, also when a label names the engine later, unless it is given."""
        async with PageServer() as server, PageServer() as other:
            server.page = other.page = b"mine 7\n"
            engine = Engine(name="mine", queued_requests="mine", port=server.port)
            options = ScrapingOptions(interval=0.01, timeout=PATIENCE, engines=Engines(own=[engine]))
            labels = {"llm-d.ai/engine-type": "mine"}
            async with scraped([endpoint_of("a", other.port)], options) as found:
                await until(lambda: found.scrapes("a").read_errors)
                found.registry.set_endpoints([endpoint_of("a", other.port, labels)])
                assert 7 == (await found.next_page("a")).waiting_queue_size
                assert server.requests
            server.requests.clear()
            options = ScrapingOptions(interval=0.01, timeout=PATIENCE, port=other.port, engines=Engines(own=[engine]))
            async with scraped([endpoint_of("a", 1, labels)], options) as found:
                assert 7 == (await found.next_page("a")).waiting_queue_size
            assert not server.requests

    def test_triton_is_found_without_flags(self) -> None:
        """Both kinds of Triton serve their metrics at a port of their own."""
        assert [8002, 8002] == [ENGINES[name].port for name in ("triton", "triton-tensorrt-llm")]


class TestLostEndpoints:
    @on_loop
    async def test_refused_connection_is_stale_at_once(self) -> None:
        """An endpoint at which nobody listens is stale long before the threshold, and fresh with its next page."""
        server = await PageServer().__aenter__()
        async with scraped([endpoint_of("a", server.port)], threshold=1000) as found:
            await found.next_page("a")
            assert not found.is_stale("a")
            await server.__aexit__()
            await until(lambda: found.is_stale("a"))
            assert found.scrapes("a").stale
            assert "refused" in found.scrapes("a").reason
            async with server:
                await until(lambda: not found.is_stale("a"))
                assert not found.scrapes("a").stale

    @on_loop
    async def test_slow_endpoint_is_not_lost(self) -> None:
        """One that does not answer in time is stale only when its metrics are old."""
        async with PageServer() as server, scraped([endpoint_of("a", server.port)], threshold=1000) as found:
            await found.next_page("a")
            server.behave(b"no page at all\n")
            await until(lambda: found.scrapes("a").read_errors)
            assert not found.is_stale("a")

    @on_loop
    async def test_overdue_endpoint_is_stale_until_it_answers(self) -> None:
        """One that hangs is found long before its metrics are old, and before the scrape is given up."""
        go, asked = asyncio.Event(), asyncio.Event()

        async def play(server: PageServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await read_request(server, reader):
                asked.set()
                await go.wait()
                writer.write(response_of(page_of()))

        options = ScrapingOptions(interval=0.01, timeout=PATIENCE, overdue=0.05)
        async with PageServer(play) as server, scraped([endpoint_of("a", server.port)], options, threshold=1000) as it:
            # On a busy machine no page may come so fast that the next one is missed.
            while not it.is_stale("a"):
                go.set()
                await it.next_page("a")
                go.clear()
                asked.clear()
                await asked.wait()
                await asyncio.sleep(0.1)
            assert it.scrapes("a").stale
            assert not it.scrapes("a").failures
            go.set()
            await until(lambda: not it.is_stale("a"))

    @on_loop
    async def test_slow_pages_are_not_overdue(self) -> None:
        """Where pages take half of that time or longer, only their age counts."""

        async def play(server: PageServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for pause in (0.05, 0.2, PATIENCE):
                if await read_request(server, reader):
                    await asyncio.sleep(pause)
                    writer.write(response_of(page_of()))

        options = ScrapingOptions(interval=0.01, timeout=PATIENCE, overdue=0.1)
        async with PageServer(play) as server, scraped([endpoint_of("a", server.port)], options, threshold=1000) as it:
            await until(lambda: len(server.requests) > 2)
            await asyncio.sleep(0.2)
            assert not it.is_stale("a")
