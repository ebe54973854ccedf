"""What runs beside a server, as long as it serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import NoReturn, Protocol, final, runtime_checkable

from inferencepool.runtime.logs import log_event

__all__ = ["DrainListener", "RunningParts", "ServerPart"]

_LOG = logging.getLogger(__name__)
# Seconds that parts have to end once they are cancelled.
_PATIENCE = 5.0


class ServerPart(Protocol):
    """
    **Protocol:** runs beside a server: follows a cluster, scrapes metrics, serves a page.

    A part that readiness depends on gets a `Health` in its constructor and sets a condition there; give the same
    `Health` to the server. A part that has to act when the server begins to drain is a `DrainListener` as well.
    """

    async def run(self) -> object:
        """
        Run until cancelled, and clean up then, within seconds.

        It is started when the server's ports are bound, and cancelled when the last stream has ended, so it goes on
        while the server drains. A part that returns has done its work. What it raises ends the server at once and is
        raised by `EndpointPickerServer.run`: raise where going on makes no sense, and log everything else.
        """


@runtime_checkable
class DrainListener(Protocol):
    """**Protocol:** a part that hears when the server begins to drain, such as one that holds a lease."""

    def drain(self) -> object:
        """Hear that the server takes no new work; called once, in the event loop, and must not wait."""


@final
class RunningParts:
    """The parts of one server; its event loop guards them."""

    def __init__(self, parts: Iterable[ServerPart]) -> None:
        """Take *parts*; none is started yet."""
        self._parts = tuple(parts)
        self._tasks: list[asyncio.Task[object]] = []

    def start(self) -> None:
        """Start all of them."""
        self._tasks = [asyncio.create_task(_run(part)) for part in self._parts]

    async def failure(self) -> NoReturn:
        """Wait until one of them fails, and raise what it raised; never returns."""
        if self._tasks:
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        while True:
            await asyncio.Event().wait()

    def drain(self) -> None:
        """Tell those that want to hear it that the server drains."""
        for part in self._parts:
            if isinstance(part, DrainListener):
                try:
                    part.drain()
                except Exception:  # noqa: BLE001 - a mistake in one part must not keep the server from draining
                    _LOG.exception("a part failed while draining")

    async def stop(self) -> None:
        """Cancel all of them and wait until they have ended, for some seconds at most; what they raise is logged."""
        running = [task for task in self._tasks if not task.done()]
        for task in running:
            task.cancel()
        if running:
            done, late = await asyncio.wait(running, timeout=_PATIENCE)
            for task in done:
                if not task.cancelled() and (error := task.exception()) is not None:
                    _LOG.error("a part failed while ending", exc_info=error)
            if late:
                log_event(_LOG, logging.WARNING, "parts did not end", parts=len(late), waited=_PATIENCE)


async def _run(part: ServerPart) -> object:
    # `run` need not be a native coroutine.
    return await part.run()
