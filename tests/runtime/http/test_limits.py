"""What clients may use of the page server, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

import pytest

from inferencepool.runtime.http import Page, PageLimits, PageRequest, PageServer
from tests.patience import PATIENCE
from tests.runtime.http.clients import LOOPBACK, client_of, serving


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


class TestTime:
    def test_a_request_that_stalls(self) -> None:
        """It is refused when its time is over."""

        async def scenario() -> None:
            async with serving(limits=PageLimits(head_seconds=0.01)) as server, client_of(server) as client:
                await client.say(b"GET / HTT")
                assert "HTTP/1.1 408 Request Timeout" == (await client.hear())[0]
                assert b"" == await client.rest()

        asyncio.run(scenario())

    def test_a_request_byte_by_byte(self) -> None:
        """Each byte that comes is no new beginning: the time is that of the whole request."""

        async def scenario() -> None:
            async with serving(limits=PageLimits(head_seconds=0.05)) as server, client_of(server) as client:

                async def drip() -> None:
                    while True:
                        await client.say(b"G")
                        await asyncio.sleep(0.005)

                dripping = asyncio.create_task(drip())
                assert "HTTP/1.1 408 Request Timeout" == (await client.hear())[0]
                dripping.cancel()

        asyncio.run(scenario())

    def test_a_connection_without_requests(self) -> None:
        """The server hangs up without a word."""

        async def scenario() -> None:
            async with serving(limits=PageLimits(idle_seconds=0.01)) as server, client_of(server) as client:
                assert b"" == await client.rest()

        asyncio.run(scenario())

    def test_a_client_that_does_not_read(self) -> None:
        """It loses its connection, and the page its memory."""

        async def scenario() -> None:
            asked: list[PageRequest] = []

            def large(request: PageRequest) -> Page:
                asked.append(request)
                return Page(bytes(50_000_000))

            async with serving({"/": large}, PageLimits(send_seconds=0.05)) as server:
                with socket.create_connection((LOOPBACK, server.port)) as silent:
                    silent.sendall(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
                    await eventually(lambda: bool(asked) and not server._clients)

        asyncio.run(scenario())


class TestConnections:
    def test_one_more_takes_the_place_of_an_idle_one(self) -> None:
        """The oldest that waits for its next request goes; the others stay."""

        async def scenario() -> None:
            async with serving(limits=PageLimits(connections=2)) as server, contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(client_of(server)) for _ in range(2)]
                for client in clients:
                    await client.ask()
                newest = await stack.enter_async_context(client_of(server))
                assert b"/ {}" == (await newest.ask())[2]
                assert b"" == await clients[0].rest()
                assert b"/ {}" == (await clients[1].ask())[2]

        asyncio.run(scenario())

    def test_a_storm_keeps_to_the_limit(self) -> None:
        """However many come at once, no more than allowed stay, and one that asks is served."""

        async def scenario() -> None:
            async with serving(limits=PageLimits(connections=3)) as server, contextlib.AsyncExitStack() as stack:
                storm = [await stack.enter_async_context(client_of(server)) for _ in range(30)]
                assert b"/ {}" == (await storm[-1].ask())[2]
                assert len(server._clients) <= 3

        asyncio.run(scenario())

    def test_one_more_is_turned_away_where_all_are_busy(self) -> None:
        """Nobody who waits for a page loses it."""
        begun, goes_on = threading.Event(), threading.Event()

        def slow(_: PageRequest) -> Page:
            begun.set()
            assert goes_on.wait(PATIENCE)
            return Page(b"done")

        async def scenario() -> None:
            async with serving({"/": slow}, PageLimits(connections=1)) as server, client_of(server) as busy:
                asked = asyncio.create_task(busy.ask())
                await eventually(begun.is_set)
                async with client_of(server) as late:
                    assert b"" == await late.rest()
                goes_on.set()
                assert b"done" == (await asked)[2]

        asyncio.run(scenario())

    def test_no_more_pages_wait_than_allowed(self) -> None:
        """Pages are made one at a time; whoever asks for one too many is told to come again."""
        goes_on = threading.Event()

        def slow(_: PageRequest) -> Page:
            assert goes_on.wait(PATIENCE)
            return Page(b"done")

        async def scenario() -> None:
            async with serving({"/": slow}, PageLimits(pages=2)) as server, contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(client_of(server)) for _ in range(3)]
                asked = [asyncio.create_task(client.ask()) for client in clients[:2]]
                await eventually(lambda: server._waiting == 2)
                status, headers, _ = await clients[2].ask()
                assert ("HTTP/1.1 503 Service Unavailable", "1") == (status, headers["retry-after"])
                goes_on.set()
                assert [b"done"] * 2 == [(await each)[2] for each in asked]
                assert b"done" == (await clients[2].ask())[2]
                assert 1 == server.limits_acted["pages"]

        asyncio.run(scenario())

    def test_one_peer_does_not_take_all_places(self) -> None:
        """Beyond its limit a peer loses its own idle connections."""

        async def scenario() -> None:
            limits = PageLimits(connections_per_peer=2)
            async with serving(limits=limits) as server, contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(client_of(server)) for _ in range(2)]
                for client in clients:
                    await client.ask()
                third = await stack.enter_async_context(client_of(server))
                assert b"/ {}" == (await third.ask())[2]
                assert b"" == await clients[0].rest()
                assert 1 == server.limits_acted["connections_per_peer"]

        asyncio.run(scenario())


class TestEnd:
    def test_all_are_hung_up_on(self) -> None:
        """Idle clients, such that wait for a page, and such that come late."""
        goes_on = threading.Event()

        def slow(_: PageRequest) -> Page:
            goes_on.wait(PATIENCE)
            return Page(b"done")

        async def scenario() -> None:
            async with serving({"/": slow}) as server:
                port = server.port
                async with client_of(server) as idle, client_of(server) as waiting:
                    await idle.say(b"G")
                    await waiting.say(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
                    await eventually(lambda: len(server._clients) == 2)
                    await server.stop()
                    goes_on.set()
                    assert b"" == await idle.rest() == await waiting.rest()
                    with pytest.raises(ConnectionRefusedError):
                        await asyncio.open_connection(LOOPBACK, port)
                await server.stop()

        asyncio.run(scenario())

    def test_run(self) -> None:
        """It serves until it is cancelled."""

        async def scenario() -> None:
            server = PageServer({"/": lambda _: Page(b"page")}, address=LOOPBACK)
            task = asyncio.create_task(server.run())
            await eventually(lambda: server._listener is not None)
            async with client_of(server) as client:
                assert b"page" == (await client.ask())[2]
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert b"" == await client.rest()

        asyncio.run(scenario())

    def test_a_port_that_is_taken(self) -> None:
        """It is told by the operating system's error."""

        async def scenario() -> None:
            async with serving() as server:
                other = PageServer({}, address=LOOPBACK, port=server.port)
                with pytest.raises(OSError, match=str(server.port)):
                    await other.run()

        asyncio.run(scenario())
