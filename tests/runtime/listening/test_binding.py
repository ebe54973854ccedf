"""Starting to listen."""

from __future__ import annotations

import asyncio
import socket

import pytest

from inferencepool.runtime._listening import listen


async def _start(port: int = 0) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", port)


def test_it_gives_the_server() -> None:
    """What was started is passed on, listening."""

    async def scenario() -> None:
        async with await listen(_start, 0) as server:
            socket.create_connection(server.sockets[0].getsockname()).close()

    asyncio.run(scenario())


def test_errors_are_passed_on() -> None:
    """An address that is taken is an error as ever."""

    async def scenario() -> None:
        async with await listen(_start, 0) as server:
            with pytest.raises(OSError, match="address already in use"):
                await listen(_start, server.sockets[0].getsockname()[1])

    asyncio.run(scenario())


@pytest.mark.parametrize("steps", range(1, 5))
def test_cancelled_in_the_middle(steps: int) -> None:
    """However far the start has come, nobody listens afterwards, and the cancellation goes on."""
    made: list[asyncio.Server] = []

    async def start(_: int) -> asyncio.Server:
        made.append(await _start())
        await asyncio.sleep(0)
        return made[0]

    async def scenario() -> None:
        task = asyncio.ensure_future(listen(start, 0))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [False] * len(made) == [server.is_serving() for server in made]

    asyncio.run(scenario())


def test_cancelled_before_an_error() -> None:
    """An error that comes after the cancellation is not told."""

    async def fail(_: int) -> asyncio.Server:
        await asyncio.sleep(0)
        raise OSError

    async def scenario() -> None:
        task = asyncio.ensure_future(listen(fail, 0))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_all_addresses_have_one_port() -> None:
    """The system gives each address a free port of its own; here they share one."""

    async def start(port: int) -> asyncio.Server:
        # Two addresses that every machine with IPv4 has; a machine with IPv6 has several for no name as well.
        return await asyncio.get_running_loop().create_server(asyncio.Protocol, ["127.0.0.1", "127.0.0.2"], port)

    async def scenario() -> None:
        async with await listen(start, 0) as server:
            (port,) = {each.getsockname()[1] for each in server.sockets}
            assert {"127.0.0.1", "127.0.0.2"} == {each.getsockname()[0] for each in server.sockets}
            assert port

    asyncio.run(scenario())


def test_an_address_that_does_not_exist() -> None:
    """The error says so."""

    async def start(port: int) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(asyncio.Protocol, "no.such.host.invalid", port)

    with pytest.raises(OSError, match="there is no such address"):
        asyncio.run(listen(start, 0))
