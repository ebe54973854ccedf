"""`EndpointPickerServer`: from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, final

from inferencepool.adapters.extproc import ExternalProcessor
from inferencepool.runtime.extproc import extproc_limits, extproc_routes
from inferencepool.runtime.grpc import Call, CallFactory, Closure, GrpcServer, Limits, StoppableCall, Stream
from inferencepool.runtime.health import Health, health_routes
from inferencepool.runtime.logs import log_event
from inferencepool.runtime.server._ejection_log import EjectionLog
from inferencepool.runtime.server._files import FollowedFile, WatchedFile
from inferencepool.runtime.server._options import ServerOptions
from inferencepool.runtime.server._parts import RunningParts, ServerPart
from inferencepool.runtime.tls import CertificateReloader, server_context

__all__ = ["EndpointPickerServer"]

_LOG = logging.getLogger(__name__)
# What one client may ask about health at a time, how long a question or the answers that wait may be, and how many
# clients may do so at once.
_HEALTH_STREAMS = 64
_HEALTH_BYTES = 65_536
_HEALTH_CONNECTIONS = 64

# Between two looks at whether streams are open.
_LOOK = 0.05


@final
class EndpointPickerServer:
    """
    Serves ext_proc and health until it is asked to stop.

    It belongs to one event loop, whose thread guards it; `load` comes before.

    When asked to stop it says at once that it is not ready, and goes on serving until no stream has been open for
    `ServerOptions.drain_quiet`. Where streams still come after `ServerOptions.drain_notice`, it asks clients to open
    them on other connections, and once those are over that had begun by then it takes no more: later ones are served if
    they began before that, and refused as not processed otherwise. All this takes `ServerOptions.drain_timeout` at
    most. Streams that are open then end: with an error where the response's body passes through them, as status OK
    would be taken for the end of the body, and else with OK, upon which Envoy goes on with their HTTP requests. Asked a
    second time it ends at once.

    Attributes:
        health: What the health service tells.
    """

    def __init__(
        self,
        processor: ExternalProcessor,
        *,
        options: ServerOptions | None = None,
        files: Sequence[WatchedFile] = (),
        parts: Sequence[ServerPart] = (),
        health: Health | None = None,
        notes: Sequence[str] = (),
        on_closed: Callable[[Closure], object] | None = None,
        limits: Limits | None = None,
    ) -> None:
        """
        Serve *processor*.

        Args:
            processor: Answers requests.
            options: Where and how to serve.
            files: What the endpoints are read from, again whenever one of them changes.
            parts: What runs beside it.
            health: What the health service tells. By default it has the one condition ``synced``, which `load` meets;
                give one that the parts know where they set conditions.
            notes: What whoever made the processor wants to have in the log, below the line that says where it serves.
            on_closed: Is told in the event loop how each stream of ext_proc ended; must not raise.
            limits: What clients of ext_proc may use; by default `extproc_limits` of the processor. Of the health
                service's port, connections are limited alike, and everything else is small.
        """
        self.health = health if health is not None else Health(("synced",), any_name=True)
        self._processor = processor
        self._options = options if options is not None else ServerOptions()
        interval = self._options.poll_interval
        self._files = [FollowedFile(file, interval, self._tell_endpoints) for file in files]
        self._parts = RunningParts(parts)
        self._notes = notes
        self._streams = 0
        self._open: dict[int, None] = {}
        extproc = extproc_routes(processor, on_closed=on_closed)
        routes = {path: self._counted(factory) for path, factory in extproc.items()}
        if self._options.health_checking:
            routes.update(health_routes(self.health))
        limits = limits if limits is not None else extproc_limits(processor)
        self._server = GrpcServer(routes, limits=limits, name="extproc")
        self._health_server = GrpcServer(health_routes(self.health), limits=_health_limits(limits), name="health")
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()
        self._started = asyncio.Event()

    @property
    def port(self) -> int:
        """The port of ext_proc, once it is bound."""
        return self._server.port

    def limits_acted(self) -> Mapping[str, Mapping[str, int]]:
        """Tell how often limits acted that protect the server from all clients together, by server and by name."""
        return {"extproc": self._server.statistics().limits, "health": self._health_server.statistics().limits}

    @property
    def health_port(self) -> int:
        """The port of health, once it is bound."""
        return self._health_server.port

    def load(self) -> None:
        """
        Read all files for the first time, which meets the condition ``synced``.

        Raises:
            ConfigurationError: A *health* of the caller's has no such condition.
            InferencePoolError: One of the files cannot be read, or nothing in it can be used.
        """
        for file in self._files:
            file.load()
        self.health.set("synced")

    async def run(self) -> None:
        """
        Serve until `stop` was called and everything has ended.

        Raises:
            ConfigurationError: The certificate cannot be used.
            MissingExtraError: An optional dependency is not installed.
            OSError: A port cannot be bound.
            Exception: What a part raised.
        """
        tasks: list[asyncio.Task[None]] = []
        registry = self._processor.picker.registry
        unsubscribe = registry.health.subscribe(EjectionLog(registry.clock))
        try:
            await self._start(tasks)
            await _first(self._asked.wait(), self._parts.failure(), *tasks)
            await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            self.health.close()
            await self._server.stop(0)
            await self._health_server.stop(0)
            await self._parts.stop()
            self._processor.close()
            unsubscribe()
        log_event(_LOG, logging.INFO, "stopped", streams=self._streams)

    async def wait_until_serving(self) -> None:
        """Wait until both ports are bound."""
        await self._started.wait()

    def stop(self) -> None:
        """Ask the server to drain and end; asked again, it ends at once."""
        if self._asked.is_set():
            self._hurried.set()
        self._asked.set()

    async def _start(self, tasks: list[asyncio.Task[None]]) -> None:
        options = self._options
        host = options.address or None
        await self._health_server.start(host, options.grpc_health_port)
        await self._server.start(host, options.grpc_port, tls=self._secure(tasks))
        picker = self._processor.picker
        pool = picker.registry.pool
        log_event(
            _LOG,
            logging.INFO,
            "serving",
            grpc_port=self.port,
            grpc_health_port=self.health_port,
            address=options.address or "*",
            secure=options.secure_serving,
            pool=f"{pool.namespace}/{pool.name}" if pool is not None else None,
            endpoints=picker.registry.statistics().endpoints,
        )
        for note in self._notes:
            log_event(_LOG, logging.WARNING, "not used", reason=note)
        for file in self._files:
            file.tell()
            tasks.append(asyncio.create_task(file.follow()))
        self._parts.start()
        self._started.set()

    def _secure(self, tasks: list[asyncio.Task[None]]) -> ssl.SSLContext | None:
        options = self._options
        if not options.secure_serving:
            return None
        if options.cert_path is None or not options.enable_cert_reload:
            return server_context(options.cert_path, on_problem=_tell_certificate)
        reloader = CertificateReloader(
            options.cert_path,
            interval=options.poll_interval,
            on_reload=lambda: log_event(_LOG, logging.INFO, "certificate loaded", directory=options.cert_path),
            on_problem=_tell_certificate,
        )
        tasks.append(asyncio.create_task(reloader.run()))
        return reloader.context

    async def _drain(self) -> None:
        self.health.drain()
        self._parts.drain()
        timeout = self._options.drain_timeout
        log_event(_LOG, logging.INFO, "draining", streams=self._open_streams(), drain_timeout=timeout)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await _first(self._hurried.wait(), self._leave(), self._parts.failure())
        if streams := self._open_streams():
            log_event(_LOG, logging.WARNING, "streams cut", streams=streams)

    async def _leave(self) -> None:
        """Wait until nobody needs this server any more."""
        options = self._options
        quiet = asyncio.ensure_future(self._quiet())
        try:
            await _first(quiet, asyncio.sleep(options.drain_notice))
            if quiet.done():
                return
            last = self._streams
            self._server.drain()
            log_event(_LOG, logging.INFO, "clients sent away", streams=self._open_streams())
            await _first(quiet, self._until_over(last))
            if not quiet.done():
                # Watches would be waited for, like all streams.
                self.health.close()
                await self._server.stop(options.drain_timeout)
        finally:
            quiet.cancel()

    async def _until_over(self, last: int) -> None:
        """Wait until the streams are over that began as number *last* or before, and clients had time to go."""
        await asyncio.sleep(self._options.drain_quiet)
        # The oldest comes first.
        while next(iter(self._open), last + 1) <= last:  # noqa: ASYNC110 - an event would cost each stream something
            await asyncio.sleep(_LOOK)

    async def _quiet(self) -> None:
        """Wait until no stream has been open for long enough."""
        loop = asyncio.get_running_loop()
        since, streams = loop.time(), self._streams
        while self._open_streams() or self._streams != streams or loop.time() - since < self._options.drain_quiet:
            # A stream that came and went between two looks shows in the count of all.
            if self._open_streams() or self._streams != streams:
                since, streams = loop.time(), self._streams
            await asyncio.sleep(_LOOK if self._open_streams() else min(_LOOK, self._options.drain_quiet))

    def _counted(self, factory: CallFactory) -> CallFactory:
        def call(stream: Stream) -> Call:
            self._streams += 1
            return _Numbered(factory(stream), self._streams, self._open)

        return call

    def _open_streams(self) -> int:
        return self._processor.statistics().sessions

    def _tell_endpoints(self) -> None:
        count = self._processor.picker.registry.statistics().endpoints
        log_event(_LOG, logging.INFO, "endpoints loaded", endpoints=count)


@final
class _Numbered:
    """A call that is in a table by its number as long as it is open, and may choose how it ends with the server."""

    __slots__ = ("_call", "_number", "_open", "half_closed", "message")

    def __init__(self, call: Call, number: int, open_: dict[int, None]) -> None:
        self.message = call.message
        self.half_closed = call.half_closed
        self._call = call
        self._number = number
        self._open = open_
        open_[number] = None

    def stopping(self) -> None:
        if isinstance(self._call, StoppableCall):
            self._call.stopping()

    def closed(self, closure: Closure) -> None:
        del self._open[self._number]
        self._call.closed(closure)


def _health_limits(limits: Limits) -> Limits:
    """Give limits for questions of a few bytes."""
    return Limits(
        connections=limits.connections,
        connections_per_peer=limits.connections_per_peer,
        exempt_peers=limits.exempt_peers,
        handshakes=limits.handshakes,
        streams=_HEALTH_STREAMS,
        server_streams=_HEALTH_STREAMS * _HEALTH_CONNECTIONS,
        message_bytes=_HEALTH_BYTES,
        partial_bytes=_HEALTH_BYTES,
        server_bytes=_HEALTH_BYTES * _HEALTH_CONNECTIONS,
        stream_window=_HEALTH_BYTES,
        connection_window=_HEALTH_BYTES,
        queued_bytes=_HEALTH_BYTES,
        connection_queued_bytes=_HEALTH_BYTES,
    )


def _tell_certificate(problem: str) -> None:
    log_event(_LOG, logging.WARNING, "certificate problem", reason=problem)


async def _first(*waited: Coroutine[Any, Any, object] | asyncio.Task[None]) -> None:
    """Wait for the first of several; raise what it raised. Those that were not tasks are cancelled."""
    own = {asyncio.ensure_future(each): asyncio.iscoroutine(each) for each in waited}
    try:
        done, _ = await asyncio.wait(own, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, is_own in own.items():
            if is_own:
                task.cancel()
    for task in done:
        task.result()
