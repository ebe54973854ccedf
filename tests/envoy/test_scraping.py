"""The picker scrapes the model servers, and real requests go where their pages say there is room."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.envoy.serving import PLAIN, served, write_endpoints
from tests.envoy.stage import Client, Stage, on_stage, until
from tests.runtime.scraping.servers import LOOPBACK, PageServer, Play, page_of, read_request, response_of


def named(name: str) -> Play:
    """Serve the page, and answer all other requests with a name."""

    async def play(server: PageServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(server, reader):
            is_scrape = server.requests[-1].startswith(b"GET /metrics ")
            writer.write(response_of(server.page if is_scrape else name.encode()))
            await writer.drain()

    return play


async def wait_for(client: Client, name: str) -> None:
    """Wait until ten requests in a row are served by *name*."""
    run = 0
    answers: list[bytes] = []
    while run < 10:
        answers.append((await client.send("/v1/models")).body)
        run = run + 1 if answers[-1] == name.encode() else 0


@on_stage
async def test_traffic_follows_the_metrics(stage: Stage, tmp_path: Path) -> None:
    """The server with the shorter queue gets the requests, until the other has it, or its own page is gone."""
    async with PageServer(named("first")) as first, PageServer(named("second")) as second:
        addresses = [f"{LOOPBACK}:{server.port}" for server in (first, second)]
        write_endpoints(tmp_path / "endpoints.json", addresses)
        flags = (*PLAIN, "--refresh-metrics-interval=10ms", "--metrics-staleness-threshold=300ms")
        async with served(
            "--endpoints-file", str(tmp_path / "endpoints.json"), *flags, "--scrape-metrics=true"
        ) as picker:
            client = await stage.start_envoy(picker.address, addresses=addresses, mode="FailClose", body_mode="none")
            second.page = page_of(9)
            await wait_for(client, "first")
            first.page, second.page = page_of(20), page_of(0)
            await wait_for(client, "second")
            second.page = b"nothing\n"
            line = await picker.line("metrics stale")
            assert "default/" in line["endpoint"]
            assert "no value in 'nothing'" in line["reason"]
            # What is known is better than what is not, however much it is.
            await wait_for(client, "first")
            second.page = page_of(0)
            await picker.line("metrics fresh again")
            await wait_for(client, "second")
        await until(lambda: first.requests, lambda: "no request")
