"""One event loop for the gateways, their pickers and their model servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.envoy.serving import PLAIN, Served, served, write_endpoints
from tests.gateways.model_server import EchoServer
from tests.patience import PATIENCE

__all__ = ["Hall"]


class Hall:
    """Two model servers, and what a test starts before them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = [EchoServer(), EchoServer()]

    @property
    def addresses(self) -> list[str]:
        """Where the model servers are."""
        return [server.address for server in self.servers]

    @asynccontextmanager
    async def serve(self, *arguments: str, secure: bool = False, empty: bool = False) -> AsyncIterator[Served]:
        """Run `inferencepool serve` for the model servers, or for none."""
        file = self.folder / "endpoints.json"
        write_endpoints(file, [] if empty else self.addresses)
        given = ("--endpoints-file", str(file), "--log-requests", *(() if secure else PLAIN), *arguments)
        async with served(*given) as picker:
            yield picker


@pytest.fixture(name="runner", scope="session")
def _runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(name="hall", scope="module")
def _hall(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    hall = Hall(tmp_path_factory.mktemp("hall"))
    resources = AsyncExitStack()

    async def start() -> None:
        for server in hall.servers:
            await server.start()
            resources.push_async_callback(server.stop)

    runner.run(start())
    yield hall
    runner.run(resources.aclose())


@pytest.fixture(name="run")
def _run(runner: asyncio.Runner) -> Callable[[Awaitable[Any]], Any]:
    """Run a coroutine, for so long as it may take on a busy machine."""

    async def bounded(work: Awaitable[Any]) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await work

    return lambda work: runner.run(bounded(work))
