"""What runs beside a server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import attrs
import pytest

from inferencepool.adapters.extproc import ExternalProcessor
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.health import Health
from inferencepool.runtime.server import EndpointPickerServer, ServerOptions, ServerPart, _parts
from tests.patience import PATIENCE

LOCAL = ServerOptions(
    address="127.0.0.1", grpc_port=0, grpc_health_port=0, secure_serving=False, drain_quiet=0, drain_timeout=0
)


@attrs.define
class Part:
    """Notes what happens to it, and does what it is told when it runs."""

    does: Callable[[], Awaitable[object]] = asyncio.Event().wait
    notes: list[str] = attrs.field(factory=list)
    ended: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def run(self) -> object:
        """Run."""
        self.notes.append("run")
        try:
            return await self.does()
        finally:
            self.notes.append("end")
            self.ended.set()


@attrs.define
class Listener(Part):
    """Hears of the drain as well."""

    def drain(self) -> None:
        """Hear of it."""
        self.notes.append("drain")


def server_of(
    parts: Sequence[ServerPart], health: Health | None = None, options: ServerOptions = LOCAL
) -> EndpointPickerServer:
    """A server with parts and no files."""
    processor = ExternalProcessor(EndpointPicker(EndpointRegistry()))
    return EndpointPickerServer(processor, options=options, parts=parts, health=health)


async def serve(server: EndpointPickerServer, do: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0)) -> None:
    """Run a server while *do* runs, and stop it."""
    async with asyncio.timeout(PATIENCE):
        task = asyncio.create_task(server.run())
        await server.wait_until_serving()
        await do()
        server.stop()
        await task


def forever() -> Awaitable[object]:
    """Wait in the loop that runs."""
    return asyncio.Event().wait()


class TestLife:
    def test_run_until_the_drain_is_over(self) -> None:
        """A part starts with the server, hears of the drain if it wants to, and has ended when the server has."""
        plain, listener = Part(forever), Listener(forever)
        asyncio.run(serve(server_of([plain, listener])))

        assert ["run", "end"] == plain.notes
        assert ["run", "drain", "end"] == listener.notes

    def test_part_that_returns(self) -> None:
        """A part that has done its work ends nothing, and is not cancelled."""
        part, other = Part(lambda: asyncio.sleep(0)), Part(forever)
        server = server_of([part, other])

        async def play() -> None:
            await part.ended.wait()
            assert "end" not in other.notes

        asyncio.run(serve(server, play))
        assert ["run", "end"] == other.notes

    def test_all_parts_return(self) -> None:
        """A server whose parts have all done their work serves on."""
        part = Part(lambda: asyncio.sleep(0))

        async def play() -> None:
            await part.ended.wait()
            await asyncio.sleep(0.01)

        server = server_of([part])
        asyncio.run(serve(server, play))
        assert ("synced", "draining") == server.health.unmet

    def test_part_that_fails_during_the_drain(self) -> None:
        """The drain is over at once, and the server raises what the part raised."""
        draining = asyncio.Event()

        async def fail() -> None:
            await draining.wait()
            message = "a part failed"
            raise ValueError(message)

        class Failing(Part):
            def drain(self) -> None:
                draining.set()

        # It would drain for as long as streams were seen within the last hour.
        options = attrs.evolve(LOCAL, drain_quiet=3600, drain_timeout=3600)
        with pytest.raises(ValueError, match="a part failed"):
            asyncio.run(serve(server_of([Failing(fail)], options=options)))

    def test_part_waits_for_its_end(self) -> None:
        """What a part does when it is cancelled is done before the server has ended."""
        notes = []

        async def slow() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                notes.append("cleaned up")

        asyncio.run(serve(server_of([Part(slow)])))
        assert ["cleaned up"] == notes

    def test_part_that_does_not_end(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """A part that does not end when cancelled keeps the server for a while only."""
        monkeypatch.setattr(_parts, "_PATIENCE", 0.01)
        released = asyncio.Event()

        async def stubborn() -> None:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue

        async def scenario() -> None:
            await serve(server_of([Part(stubborn)]))
            released.set()
            await asyncio.sleep(0)

        asyncio.run(scenario())
        assert "parts did not end" in caplog.messages


class TestFailure:
    def test_while_serving(self) -> None:
        """What a part raises ends the server, and the other parts with it."""

        async def fail() -> None:
            message = "no permission"
            raise LookupError(message)

        other = Part(forever)
        with pytest.raises(LookupError, match="no permission"):
            asyncio.run(server_of([Part(fail), other]).run())

        assert ["run", "end"] == other.notes

    def test_while_ending(self, caplog: pytest.LogCaptureFixture) -> None:
        """What parts raise at the end, or when they hear of the drain, is logged, and the server ends."""

        class Clumsy:
            async def run(self) -> None:
                try:
                    await asyncio.Event().wait()
                finally:
                    raise LookupError

            def drain(self) -> None:
                raise ValueError

        with caplog.at_level(logging.ERROR):
            asyncio.run(serve(server_of([Clumsy()])))

        assert ["a part failed while draining", "a part failed while ending"] == caplog.messages


class TestReadiness:
    def test_condition_of_a_part(self) -> None:
        """A part sets conditions of the health that it shares with the server."""
        health = Health(("synced", "leader"), any_name=True)

        async def lead() -> None:
            health.set("synced")
            health.set("leader")

        part = Part(lead)
        server = server_of([part], health)
        assert server.health is health
        assert {"synced", "leader"} == set(health.unmet)
        asyncio.run(serve(server, part.ended.wait))
        assert {"draining"} == set(health.unmet)
