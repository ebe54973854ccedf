"""`ModelServerSimulator`: a model server for tests and demonstrations."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Self, final

from inferencepool.errors import ConfigurationError, MissingExtraError
from inferencepool.lab.model_servers._engine import EngineLoad
from inferencepool.lab.model_servers._options import SimulatorOptions
from inferencepool.lab.model_servers._received import ReceivedRequest
from inferencepool.model import join_host_port

if TYPE_CHECKING:
    from inferencepool.lab.model_servers._http import SimulatorService

__all__ = ["ModelServerSimulator"]

_REMEMBERED = 256
_STATUSES = range(400, 600)


@final
class ModelServerSimulator:
    """
    A model server without a model: the OpenAI API, the metrics of vLLM, and a queue that fills under load.

    It serves ``/v1/completions``, ``/v1/chat/completions`` (both also as events), ``/v1/models``, ``/health``,
    ``/metrics`` and, for tests, ``/debug/requests``: the latest 256 requests with their headers. Every response has
    the header ``x-served-by`` with the server's address, and those to completions ``x-received-length`` and
    ``x-received-sha256``, about the body that arrived, and ``server-timing``: the milliseconds from the request's last
    byte to the response, ``total``. A response of events begins with its first token, and tells beside it how long the
    request waited in the engine, ``queue``, and was computed there, ``prefill``. A client that hangs up frees its
    place.

    Used on the thread of one event loop, which many of them can share.

        async with ModelServerSimulator(SimulatorOptions(models=["llama-3"])) as server:
            print(server.address)
    """

    def __init__(self, options: SimulatorOptions | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """
        Prepare a server; `start` starts it.

        Args:
            options: What it is like; None for the defaults.
            host: IP address to listen at.
            port: Port to listen at; 0 takes a free one at every start.
        """
        self._options = options if options is not None else SimulatorOptions()
        self._host = host
        self._port = port
        self._bound: tuple[str, int] | None = None
        self._service: SimulatorService | None = None
        self._received: deque[ReceivedRequest] = deque(maxlen=_REMEMBERED)

    @property
    def options(self) -> SimulatorOptions:
        """What it is like."""
        return self._options

    @property
    def host(self) -> str:
        """The IP address it listens at."""
        return self._host

    @property
    def port(self) -> int:
        """
        The port it listens at; after a stop, the one it listened at last.

        Raises:
            RuntimeError: It was never started.
        """
        if self._bound is None:
            message = f"{self!r} was never started"
            raise RuntimeError(message)
        return self._bound[1]

    @property
    def address(self) -> str:
        """``ip:port``, with brackets around IPv6; raises as `port` does."""
        return join_host_port(self._host, self.port)

    @property
    def received(self) -> tuple[ReceivedRequest, ...]:
        """The latest 256 requests for completions, oldest first; a new start does not forget them."""
        return tuple(self._received)

    def load(self) -> EngineLoad:
        """
        Tell the load as of now, as the metrics page does.

        Raises:
            RuntimeError: It is not running.
        """
        return self._running.driver.load()

    @property
    def streaming(self) -> int:
        """
        How many responses of events have begun and are not over.

        Raises:
            RuntimeError: It is not running.
        """
        return self._running.streaming

    def refuse(self, status: int = 503) -> None:
        """
        Answer completions and health checks with *status*, until `accept`.

        Raises:
            ConfigurationError: *status* is not an error of HTTP, 400 to 599.
            RuntimeError: It is not running.
        """
        if status not in _STATUSES:
            message = f"model server simulator: refuse: {status!r} is not a status from 400 to 599"
            raise ConfigurationError(message)
        self._running.refusal = status

    def accept(self) -> None:
        """Serve again after `refuse`; raises RuntimeError when it is not running."""
        self._running.refusal = None

    async def start(self) -> None:
        """
        Listen.

        Raises:
            MissingExtraError: aiohttp is not installed.
            OSError: The address cannot be bound.
            RuntimeError: It is running already.
        """
        if self._service is not None:
            message = f"{self!r} is running already"
            raise RuntimeError(message)
        try:
            from inferencepool.lab.model_servers._http import SimulatorService  # noqa: PLC0415 - an extra
        except ImportError:
            message = 'simulating model servers needs aiohttp: pip install "inferencepool[demo]"'
            raise MissingExtraError(message) from None
        service = SimulatorService(self._options, self._received)
        self._bound = await service.start(self._host, self._port)
        service.address = self.address
        self._service = service

    async def stop(self) -> None:
        """Close the listener and every connection at once, as a server that dies; no effect when it is not running."""
        service, self._service = self._service, None
        if service is not None:
            await service.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        if self._bound is None:
            return f"<ModelServerSimulator at {self._host}, not started>"
        return f"<ModelServerSimulator at {self.address}{'' if self._service else ', stopped'}>"

    @property
    def _running(self) -> SimulatorService:
        if self._service is None:
            message = f"{self!r} is not running"
            raise RuntimeError(message)
        return self._service
