"""The server in this process, where its clock and its files can be played with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from inferencepool.adapters.extproc import (
    BodyMode,
    Exchange,
    ExternalProcessor,
    Message,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
)
from inferencepool.errors import (
    ConfigurationError,
    InferencePoolError,
    InvalidDocumentError,
    Issue,
    MissingExtraError,
    NoEndpointsError,
)
from inferencepool.model import Endpoint
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.server import EndpointPickerServer, RequestLog, ServerOptions, WatchedFile
from tests.patience import PATIENCE
from tests.runtime.extproc.serving import PATH, written
from tests.runtime.grpc.peer import Peer, messages

HEADERS = written(RequestHeaders({":path": "/v1/models", ":method": "GET"}, end_of_stream=True))
LOCAL = ServerOptions(
    address="127.0.0.1",
    grpc_port=0,
    grpc_health_port=0,
    secure_serving=False,
    drain_quiet=0,
    poll_interval=0.001,
)


class Events(logging.Handler):
    """Collects events, and lets a task wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.arrived = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        self.seen.append((record.getMessage(), getattr(record, "fields", {})))
        self.arrived.set()

    async def wait_for(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until *event* came *count* times; its fields."""
        async with asyncio.timeout(PATIENCE):
            while len(found := [fields for name, fields in self.seen if name == event]) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return found


@pytest.fixture(name="events")
def _events() -> Any:
    events, logger = Events(), logging.getLogger("inferencepool")
    level = logger.level
    logger.addHandler(events)
    logger.setLevel(logging.INFO)
    yield events
    logger.removeHandler(events)
    logger.setLevel(level)


def server_of(
    path: Path, load: Callable[[bytes], Sequence[Issue]], options: ServerOptions = LOCAL
) -> EndpointPickerServer:
    """A server that reads one file."""
    processor = ExternalProcessor(EndpointPicker(EndpointRegistry()))
    return EndpointPickerServer(processor, options=options, files=[WatchedFile(path=str(path), limit=100, load=load)])


async def while_serving(server: EndpointPickerServer, do: Callable[[], Any]) -> None:
    """Run a server while *do* runs, and stop it."""
    task = asyncio.create_task(server.run())
    await server.wait_until_serving()
    await do()
    server.stop()
    await task


class TestFiles:
    def test_every_failure_of_a_file_keeps_the_server(self, tmp_path: Path, events: Events) -> None:
        """Whatever taking a file over raises, it is told, and the next content is tried."""
        file = tmp_path / "file"
        file.write_bytes(b"0")
        failures: dict[bytes, Exception] = {
            b"1": InvalidDocumentError([Issue("a", "is wrong")], source="file"),
            b"2": MissingExtraError("needs an extra"),
            b"3": ZeroDivisionError("a mistake"),
        }

        def load(content: bytes) -> Sequence[Issue]:
            if content in failures:
                raise failures[content]
            return [Issue("b", "is wrong")] * 60

        async def scenario() -> None:
            server = server_of(file, load)
            server.load()

            async def play() -> None:
                for count, content in enumerate(failures, start=1):
                    file.write_bytes(content)
                    await events.wait_for("file not used", count)
                file.write_bytes(b"4")
                await events.wait_for("endpoints loaded")

            await while_serving(server, play)

        asyncio.run(scenario())
        not_used = [fields for name, fields in events.seen if name == "file not used"]
        assert ["is wrong", "needs an extra", None] == [fields.get("reason") for fields in not_used]
        assert 100 == sum(name == "wrong in file" for name, _ in events.seen)
        assert [10, 10] == [fields["more"] for name, fields in events.seen if name == "more is wrong in file"]

    def test_not_ready_before_files_are_read(self, tmp_path: Path) -> None:
        """Health tells what is missing."""
        server = server_of(tmp_path / "none", lambda _content: ())

        assert ("synced",) == server.health.unmet
        with pytest.raises(InvalidDocumentError, match="no such file"):
            server.load()
        assert not server.health.ready


class TestCertificates:
    def test_certificate_is_followed(self, tmp_path: Path, events: Events) -> None:
        """With a directory and reload, a new pair of files is taken into use, and a wrong one is told."""
        from datetime import UTC, datetime  # noqa: PLC0415 - only this test needs it

        from inferencepool.runtime.tls._certificate import make_self_signed  # noqa: PLC0415 - as above

        def write() -> None:
            certificate = make_self_signed((), datetime.now(UTC))
            (tmp_path / "tls.key").write_bytes(certificate.key)
            (tmp_path / "tls.crt").write_bytes(certificate.chain)

        write()
        options = ServerOptions(
            address="127.0.0.1",
            grpc_port=0,
            grpc_health_port=0,
            cert_path=str(tmp_path),
            enable_cert_reload=True,
            drain_quiet=0,
            poll_interval=0.001,
        )
        server = EndpointPickerServer(ExternalProcessor(EndpointPicker(EndpointRegistry())), options=options)

        async def play() -> None:
            (tmp_path / "tls.crt").write_bytes(b"none")
            await events.wait_for("certificate problem")
            write()
            await events.wait_for("certificate loaded")

        asyncio.run(while_serving(server, play))


class _Traffic:
    """A proxy that has a stream open at all times, until one is refused; *over* tells how many it ended."""

    def __init__(self, peer: Peer) -> None:
        self.over = 0
        self._peer = peer

    async def run(self) -> None:
        """Open the next stream before the last one ends."""
        last = await self._open()
        while (stream := await self._open()) is not None:
            assert last is not None
            self._peer.h2.end_stream(last)
            await self._peer.flush()
            await self._peer.over(last)
            self.over += 1
            last = stream

    async def _open(self) -> int | None:
        peer = self._peer
        stream = peer.open(PATH)
        peer.send(stream, HEADERS)
        await peer.flush()
        await peer.until(lambda: bool(peer.data(stream)) or peer.reset(stream) is not None)
        assert peer.reset(stream) in {None, 7}
        return stream if peer.reset(stream) is None else None


class TestEnd:
    def test_port_that_is_taken(self, tmp_path: Path) -> None:
        """A server that cannot bind its port says so, and leaves nothing behind."""

        async def scenario() -> None:
            first = server_of(tmp_path / "none", lambda _content: ())

            async def play() -> None:
                options = ServerOptions(
                    address="127.0.0.1", grpc_port=first.port, grpc_health_port=0, secure_serving=False
                )
                with pytest.raises(OSError, match="address already in use"):
                    await server_of(tmp_path / "none", lambda _content: (), options).run()

            await while_serving(first, play)
            assert first.health_port > 0

        asyncio.run(scenario())

    def test_new_streams_do_not_put_off_the_end(self, events: Events) -> None:
        """
        Streams that come all the time are served for the notice, and until those are over that began before.

        Clients are asked to go elsewhere, and what comes too late is refused as not processed.
        """
        options = attrs.evolve(LOCAL, drain_timeout=600, drain_notice=0.05, drain_quiet=0.05)
        registry = EndpointRegistry()
        registry.set_endpoints([Endpoint(namespace="a", pod_name="b", address="10.0.0.1", port=1, rank=None)])
        server = EndpointPickerServer(ExternalProcessor(EndpointPicker(registry)), options=options)

        async def play() -> None:
            peer = await Peer.connect(server.port)
            old = await Peer.connect(server.port)
            before = old.open(PATH)
            old.send(before, HEADERS)
            await old.flush()
            await old.until(lambda: bool(old.data(before)))
            traffic = _Traffic(peer)
            running = asyncio.ensure_future(traffic.run())
            server.stop()
            await events.wait_for("clients sent away")
            count = traffic.over
            await old.until(lambda: bool(old.gone()))
            # It is not ended while the old stream is open.
            async with asyncio.timeout(PATIENCE):
                while traffic.over < count + 20:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.001)
            assert [] == [name for name, _ in events.seen if name == "stopped"]
            old.h2.end_stream(before)
            await old.flush()
            await old.over(before)
            assert 0 == old.status(before)
            await running
            assert peer.gone()
            # The last one that was served is still open, and waited for.
            await peer.close()
            await old.close()

        asyncio.run(while_serving(server, play))
        assert [] == [name for name, _ in events.seen if name == "streams cut"]

    @pytest.mark.parametrize(("phase", "status"), [("begun", 14), ("awaited", 0), ("over", 0)])
    def test_streams_that_are_left(self, phase: str, status: int, events: Events) -> None:
        """They end with an error where OK would be taken for the end of a body that passes through them."""
        options = attrs.evolve(LOCAL, drain_timeout=0)
        registry = EndpointRegistry()
        registry.set_endpoints([Endpoint(namespace="a", pod_name="b", address="10.0.0.1", port=1, rank=None)])
        server = EndpointPickerServer(ExternalProcessor(EndpointPicker(registry)), options=options)
        full = BodyMode.FULL_DUPLEX_STREAMED
        said: list[Message] = [
            RequestHeaders({":path": "/v1/models"}, end_of_stream=True, request_body_mode=full, response_body_mode=full)
        ]
        if phase != "awaited":
            said += [ResponseHeaders({":status": "200"}), ResponseBody(b"x", end_of_stream=phase == "over")]

        async def play() -> None:
            peer = await Peer.connect(server.port)
            stream = peer.open(PATH)
            peer.send(stream, *map(written, said))
            await peer.flush()
            await peer.until(lambda: len(messages(peer.data(stream))) == len(said))
            server.stop()
            await peer.over(stream)
            assert status == peer.status(stream)
            await peer.close()

        asyncio.run(while_serving(server, play))
        assert [1] == [fields["streams"] for name, fields in events.seen if name == "streams cut"]

    def test_asked_before_it_runs(self, tmp_path: Path) -> None:
        """A server that is asked twice to stop before it runs ends at once."""
        server = server_of(tmp_path / "none", lambda _content: ())
        server.stop()
        server.stop()
        asyncio.run(server.run())

        assert ("synced", "draining") == server.health.unmet


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"grpc_port": -1}, "server: grpc_port: -1 is not a port from 0 to 65535"),
            ({"grpc_health_port": True}, "server: grpc_health_port: True is not a port from"),
            ({"drain_timeout": float("inf")}, "server: drain_timeout: inf is not a finite number"),
            ({"drain_quiet": True}, "server: drain_quiet: True is not"),
            ({"grpc_port": 1, "grpc_health_port": 1}, "server: grpc_health_port: 1 is grpc_port as well"),
            ({"enable_cert_reload": True}, "server: enable_cert_reload: there is no cert_path"),
            ({"cert_path": "a", "secure_serving": False}, "server: cert_path: a certificate is of no use"),
        ],
    )
    def test_refused(self, options: dict[str, Any], expected: str) -> None:
        """Options that make no sense are named."""
        with pytest.raises(ConfigurationError) as caught:
            ServerOptions(**options)

        assert str(caught.value).startswith(expected)


class TestRequestLog:
    @pytest.mark.parametrize(
        ("exchange", "expected"),
        [
            (Exchange(error=NoEndpointsError("no"), status=503), "request refused"),
            (Exchange(error=InferencePoolError("no")), "request failed"),
            (Exchange(error=ZeroDivisionError("no")), "request failed"),
            (Exchange(destination="10.0.0.1:8000"), "request picked"),
            (Exchange(), ""),
        ],
    )
    def test_kinds(self, exchange: Exchange, expected: str, events: Events) -> None:
        """Each kind of end is an event of its own; a request that the client gave up before a pick is none."""
        RequestLog(successful=True).finished(exchange)

        assert [expected] * bool(expected) == [name for name, _ in events.seen]

    def test_successful_requests_are_not_logged(self, events: Events) -> None:
        """Unless asked for, a request that got an endpoint is no line."""
        RequestLog().finished(Exchange(destination="10.0.0.1:8000"))

        assert [] == events.seen


def test_endpoints_of_a_registry_are_told(events: Events) -> None:
    """The first line tells how many endpoints there are."""
    registry = EndpointRegistry()
    registry.set_endpoints([Endpoint(namespace="a", pod_name="b", address="10.0.0.1", port=1, rank=None)])
    notes = ["something else"]
    server = EndpointPickerServer(ExternalProcessor(EndpointPicker(registry)), options=LOCAL, notes=notes)

    async def nothing() -> None:
        pass

    asyncio.run(while_serving(server, nothing))
    assert ["serving", "not used", "draining", "stopped"] == [name for name, _ in events.seen]
    assert events.seen[0][1]["endpoints"] == 1
