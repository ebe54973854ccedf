"""The thread on which a server's event loop runs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from threading import Thread
from typing import Any, TypeVar, final

__all__ = ["ServerThread"]

_T = TypeVar("_T")
_START_TIMEOUT = 30.0
_TURNS = 4


@final
class ServerThread:
    """An event loop on a thread of its own, with one listener. Started and stopped from other threads, once each."""

    def __init__(self, protocol: Callable[[], asyncio.Protocol], name: str) -> None:
        """Prepare; *protocol* makes what serves a connection, on the loop."""
        self._protocol = protocol
        self._loop = asyncio.SelectorEventLoop()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._listener: asyncio.Server | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop."""
        return self._loop

    def start(self, host: str, port: int, context: ssl.SSLContext | None) -> int:
        """
        Listen; gives the port.

        Raises:
            OSError: The address cannot be bound.
        """
        self._thread.start()
        try:
            return self.call(self._listen(host, port, context))
        except BaseException:
            self._end()
            raise

    def stop(self, close: Callable[[], None], abort: Callable[[], None]) -> None:
        """Close the listener, *close* the connections on the loop, *abort* those that are left, and end the thread."""
        self.call(self._close(close, abort))
        self._end()

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run *coroutine* on the loop, and give what it gives."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_START_TIMEOUT)

    async def _listen(self, host: str, port: int, context: ssl.SSLContext | None) -> int:
        self._listener = await self._loop.create_server(self._protocol, host, port, ssl=context)
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    async def _close(self, close: Callable[[], None], abort: Callable[[], None]) -> None:
        if self._listener is not None:
            # What was accepted becomes a connection before the listener is closed: asyncio loses it otherwise.
            for sock in self._listener.sockets:
                self._loop.remove_reader(sock)
            await _pass_turns()
            self._listener.close()
        close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await _pass_turns()
        abort()
        await _pass_turns()

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


async def _pass_turns() -> None:
    """Let the loop do what it has put off, and what that puts off in turn."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
