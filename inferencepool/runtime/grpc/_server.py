"""The server: addresses, connections, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite

from inferencepool.errors import ConfigurationError
from inferencepool.runtime._listening import Acceptor, Guest, Guests, listen
from inferencepool.runtime.grpc._call import CallFactory
from inferencepool.runtime.grpc._connection import Connection
from inferencepool.runtime.grpc._limits import Limits
from inferencepool.runtime.grpc._service import Service, Statistics

__all__ = ["GrpcServer"]

_LOGGER = logging.getLogger(__name__)


def _log(error: Exception) -> None:
    _LOGGER.error("a call failed", exc_info=error)


class GrpcServer:
    """
    Serves gRPC over HTTP/2, with TLS or without (then the client must know: there is no upgrade from HTTP/1.1).

    It lives on one event loop, whose thread guards it.

    Args:
        routes: What makes the call for an RPC, by the path of its method, such as ``/grpc.health.v1.Health/Check``.
        limits: What one peer may use.
        on_error: Told of every exception of a call; it must not raise. The RPC has ended with INTERNAL then, and
            nothing else is touched. Without it, errors are logged.
        name: What the server is called in log lines about its limits.

    Raises:
        ConfigurationError: A path does not begin with a slash.
    """

    def __init__(
        self,
        routes: Mapping[str, CallFactory],
        *,
        limits: Limits | None = None,
        on_error: Callable[[Exception], None] = _log,
        name: str = "grpc",
    ) -> None:
        for path in routes:
            if not path.startswith("/"):
                message = (
                    f"grpc server: routes: {path!r} is not the path of a method, such as '/package.Service/Method'"
                )
                raise ConfigurationError(message)
        self._service = Service(name, routes, limits or Limits(), on_error)
        self._guests = Guests(self._service.limits.of_connections(), self._service.tally)
        self._acceptors: list[Acceptor] = []
        self._addresses: list[tuple[str, int]] = []
        self._connections: set[Connection] = set()

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Address and port of every socket that was bound, in the order of `start`."""
        return tuple(self._addresses)

    @property
    def port(self) -> int:
        """
        Port of the first socket that was bound.

        Raises:
            ConfigurationError: The server was not started.
        """
        if not self._addresses:
            message = "grpc server: port: the server was not started"
            raise ConfigurationError(message)
        return self._addresses[0][1]

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called: calls that need not go on may end."""
        return self._service.is_stopping

    async def start(self, host: str | None, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        """
        Listen on one more address. May be called any number of times before `stop`.

        Args:
            host: Name or address; None for all addresses of this machine.
            port: Port; 0 for any that is free.
            tls: How to secure connections; its protocol (ALPN) is set to ``h2`` here. None for no security.

        Raises:
            ConfigurationError: The server was stopped.
            OSError: The address cannot be bound.
        """
        if self._service.is_stopping:
            message = "grpc server: start: the server was stopped and cannot be started again"
            raise ConfigurationError(message)
        loop = asyncio.get_running_loop()
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        start = partial(loop.create_server, asyncio.Protocol, host, start_serving=False)
        listener = await listen(lambda chosen: start(port=chosen), port)
        acceptor = Acceptor(
            listener,
            self._guests,
            lambda guest: self._connect(guest, loop),
            tls=tls,
            seconds=self._service.limits.handshake_seconds,
            tally=self._service.tally,
        )
        self._acceptors.append(acceptor)
        self._addresses += [socket.getsockname()[:2] for socket in listener.sockets]
        acceptor.start()

    def drain(self) -> None:
        """
        Ask the clients of all connections that there are to open no more RPCs on these; they may connect anew.

        What they open all the same is served.
        """
        for connection in self._connections.copy():
            connection.drain()

    async def stop(self, grace: float) -> None:
        """
        End in order: take no more connections, let RPCs in flight finish, end the rest, close.

        RPCs that do not finish in time end with status OK, or as their call says where it is a `StoppableCall`.

        Clients are asked at once to open no more RPCs. Those that they open before they can have read that, for
        `Limits.linger_seconds`, are served; later ones are refused as not processed, so that they can be tried
        elsewhere. To Envoy, status OK from an external processor means that the HTTP exchange goes on without it.

        Args:
            grace: Seconds that RPCs in flight may still take; 0 ends them now.

        Raises:
            ConfigurationError: *grace* is not a finite number of 0 or more.
        """
        if type(grace) not in {int, float} or not (isfinite(grace) and grace >= 0):
            message = f"grpc server: stop: grace: {grace!r} is not a finite number of seconds of 0 or more"
            raise ConfigurationError(message)
        service = self._service
        if not service.is_stopping:
            service.stop(asyncio.get_running_loop().time())
            for acceptor in self._acceptors:
                acceptor.close()
            self.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await service.quiet.wait()
        for connection in self._connections.copy():
            connection.finish()
        # Bounded: a connection that its peer does not close is cut off after `Limits.linger_seconds`.
        await service.empty.wait()

    def statistics(self) -> Statistics:
        """Give what the server does and did."""
        service = self._service
        return Statistics(
            connections=service.connections,
            streams=service.streams,
            partial_bytes=service.holdings.unfinished,
            queued_bytes=service.holdings.queued,
            connections_total=service.connections_total,
            streams_total=service.streams_total,
            streams_refused=service.streams_refused,
            floods=service.floods,
            violations=service.violations,
            limits=dict(service.tally.counts),
        )

    def _connect(self, guest: Guest, loop: asyncio.AbstractEventLoop) -> Connection:
        return Connection(self._service, guest, self._connections.add, self._connections.discard, loop)
