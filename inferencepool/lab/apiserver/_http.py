"""One connection of the API server: its requests, and the faults they meet. Imports h11, so it is imported late."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import Callable
from typing import Protocol, final

from inferencepool.lab._http import HttpConnection, HttpRequest
from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._faults import Answer, Cut, Ending, Fault
from inferencepool.lab.apiserver._framing import Framer
from inferencepool.lab.apiserver._log import LoggedRequest
from inferencepool.lab.apiserver._requests import ApiRequest, read_request
from inferencepool.lab.apiserver._watching import Watch

__all__ = ["Connection", "Service"]

_NO_FAULT = Fault()
_MAX_BODY = 3 * 1024 * 1024
# Smaller responses are not worth it, says the API server.
_GZIP_FROM = 128 * 1024


class Service(Protocol):
    """**Protocol:** what a connection needs of its server, all on the server's loop."""

    connections: set[Connection]
    bookmark_interval: float

    def begin(self, request: ApiRequest) -> tuple[LoggedRequest, Fault | None]:
        """Note a request, and tell what goes wrong with it."""
        ...

    def end(self, entry: LoggedRequest) -> None:
        """Note that a request is over."""
        ...

    def answer(self, request: ApiRequest, on_item: Callable[[], None]) -> Answer | Watch:
        """Do what the request asks for."""
        ...


class _Broken(Exception):  # noqa: N818 - no error: the end of a connection that a fault wanted
    """Raised to leave an exchange whose connection is at its end."""


@final
class Connection(HttpConnection):
    """
    One connection.

    Attributes:
        watch: The watch that is being told; None between watches.
    """

    def __init__(self, service: Service) -> None:
        """Serve *service*."""
        super().__init__(max_body=_MAX_BODY)
        self.watch: Watch | None = None
        self._service = service
        self._wake = asyncio.Event()
        self._ending: Ending | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._service.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Stop serving."""
        self._service.connections.discard(self)
        super().connection_lost(error)

    def break_off(self, how: Ending) -> None:
        """End the connection, or fall silent, in the middle of whatever it is at."""
        self._ending = how
        self._wake.set()
        if how == "reset":
            self.reset()
        elif how == "close":
            self.close()

    async def answer(self, request: HttpRequest) -> None:
        """Do what *request* asks for, or what goes wrong with it."""
        if request.body is None:
            message = f"Request entity too large: limit is {_MAX_BODY}"
            await self._send_answer(Answer.refusal(refusals.make(413, "RequestEntityTooLarge", message)), _NO_FAULT)
            return
        headers: dict[str, str] = {}
        for name, value in request.headers:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        with contextlib.suppress(_Broken):
            await self._exchange(read_request(request.method, request.target, headers, request.body))

    async def _exchange(self, request: ApiRequest) -> None:
        entry, fault = self._service.begin(request)
        fault = fault or _NO_FAULT
        try:
            if fault.gate is not None:
                await fault.gate.passed()
            reply = fault.answer or self._service.answer(request, self._on_item)
            try:
                if fault.cut is not None and not fault.cut.headers:
                    await self._break(fault.cut.how)
                entry.status = 200 if isinstance(reply, Watch) else reply.status
                if isinstance(reply, Watch):
                    await self._send_watch(reply, fault)
                else:
                    await self._send_answer(reply, fault, request)
            finally:
                if isinstance(reply, Watch):
                    reply.close()
        finally:
            self._service.end(entry)

    def _on_item(self) -> None:
        self._loop.call_soon_threadsafe(self._wake.set)

    async def _send_answer(self, answer: Answer, fault: Fault, request: ApiRequest | None = None) -> None:
        body, headers = answer.body, {"content-type": answer.content_type, **answer.headers}
        if request is not None and "gzip" in request.headers.get("accept-encoding", "") and len(body) >= _GZIP_FROM:
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers |= {"content-encoding": "gzip", "vary": "Accept-Encoding"}
        if not fault.chunks:
            headers["content-length"] = str(len(body))
        await self._begin(answer.status, headers)
        if request is None or request.method != "HEAD":
            await self._send_line(Framer(fault), body, fault.cut)
        await self.end_message()

    async def _send_watch(self, watch: Watch, fault: Fault) -> None:
        framer = Framer(fault)
        self.watch = watch
        end = self._end_later(watch)
        bookmarks = self._loop.create_task(self._send_bookmarks(watch))
        try:
            await self._begin(200, {"content-type": "application/json"})
            for line in fault.first:
                await self._send_line(framer, line + b"\n", fault.cut)
            while True:
                self._wake.clear()
                for line in watch.take():
                    await self._send_line(framer, line, fault.cut)
                if self._ending is not None:
                    await self._break(self._ending)
                if watch.ended:
                    break
                await self._wake.wait()
            for chunk in framer.flush():
                await self.send(chunk)
            await self.end_message()
        finally:
            self.watch = None
            bookmarks.cancel()
            if end is not None:
                end.cancel()

    def _end_later(self, watch: Watch) -> asyncio.TimerHandle | None:
        seconds = watch.timeout
        return None if seconds is None else self._loop.call_later(seconds, watch.end)

    async def _send_bookmarks(self, watch: Watch) -> None:
        while True:
            await asyncio.sleep(self._service.bookmark_interval)
            watch.mark()

    async def _send_line(self, framer: Framer, line: bytes, cut: Cut | None) -> None:
        for chunk in framer.feed(line):
            await self.send(chunk)
        if framer.is_cut and cut is not None:
            await self._break(cut.how)

    async def _begin(self, status: int, headers: dict[str, str]) -> None:
        await self.send_head(status, {"cache-control": "no-cache, private"} | headers)

    async def _break(self, how: Ending) -> None:
        """End the connection so, or say nothing more until the client gives up."""
        if how == "silence":
            await asyncio.Event().wait()
        if how == "reset":
            self.reset()
        else:
            self.close()
        raise _Broken
