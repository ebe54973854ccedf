"""HTTP/1.1 for the API server: one connection, its requests, and the faults they meet."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast, final

import h11

from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._faults import Answer, Cut, Ending, Fault
from inferencepool.lab.apiserver._framing import Framer
from inferencepool.lab.apiserver._log import LoggedRequest
from inferencepool.lab.apiserver._requests import ApiRequest, read_request
from inferencepool.lab.apiserver._watching import Watch

__all__ = ["Connection", "Service"]

_NO_FAULT = Fault()
_STATUSES = frozenset(HTTPStatus)
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
class Connection(asyncio.Protocol):
    """
    One connection. Lives on the server's loop; a task of its own serves it until either side ends it.

    Attributes:
        watch: The watch that is being told; None between watches.
    """

    def __init__(self, service: Service) -> None:
        """Serve *service*."""
        self.watch: Watch | None = None
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER)
        self._arrived = asyncio.Event()
        self._wake = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._ending: Ending | None = None
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._transport = cast("asyncio.Transport", transport)
        self._service.connections.add(self)
        self._task = self._loop.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        self._http.receive_data(data)
        self._arrived.set()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - that of asyncio
        """Stop serving."""
        self._service.connections.discard(self)
        self._task.cancel()

    def pause_writing(self) -> None:
        """Wait for a client that reads slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self._writable.set()

    def break_off(self, how: Ending) -> None:
        """End the connection, or fall silent, in the middle of whatever it is at."""
        self._ending = how
        self._wake.set()
        if how == "reset":
            self._reset()
        elif how == "close":
            self._transport.close()

    def abort(self) -> None:
        """End the connection without sending what is not sent yet."""
        self._transport.abort()

    async def _serve(self) -> None:
        try:
            while (request := await self._next_request()) is not None:
                await self._exchange(request)
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    break
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            self._transport.write(
                f"HTTP/1.1 {error.error_status_hint} Bad Request\r\nconnection: close\r\n\r\n".encode()
            )
        except _Broken:
            return
        self._transport.close()

    async def _next_request(self) -> ApiRequest | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            match self._http.next_event():
                case h11.Request() as found:
                    head = found
                case h11.Data(data=data):
                    body += data
                    if len(body) > _MAX_BODY:
                        await self._refuse_body()
                        return None
                case h11.EndOfMessage():
                    break
                case h11.ConnectionClosed():
                    return None
                case _:
                    if self._http.they_are_waiting_for_100_continue:
                        await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                    self._arrived.clear()
                    await self._arrived.wait()
        assert head is not None  # noqa: S101 - h11 tells the head before the end
        headers: dict[str, str] = {}
        for name, value in ((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers):
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return read_request(head.method.decode("ascii"), head.target.decode("latin-1"), headers, bytes(body))

    async def _refuse_body(self) -> None:
        message = f"Request entity too large: limit is {_MAX_BODY}"
        await self._send_answer(Answer.refusal(refusals.make(413, "RequestEntityTooLarge", message)), _NO_FAULT)

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
        await self._send_head(answer.status, headers)
        if request is None or request.method != "HEAD":
            await self._send_line(Framer(fault), body, fault.cut)
        await self._send(h11.EndOfMessage())

    async def _send_watch(self, watch: Watch, fault: Fault) -> None:
        framer = Framer(fault)
        self.watch = watch
        end = self._end_later(watch)
        bookmarks = self._loop.create_task(self._send_bookmarks(watch))
        try:
            await self._send_head(200, {"content-type": "application/json"})
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
                await self._send(h11.Data(data=chunk))
            await self._send(h11.EndOfMessage())
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
            await self._send(h11.Data(data=chunk))
        if framer.is_cut and cut is not None:
            await self._break(cut.how)

    async def _send_head(self, status: int, headers: dict[str, str]) -> None:
        more = {"cache-control": "no-cache, private", "date": formatdate(usegmt=True)}
        listed = list((more | headers).items())
        reason = HTTPStatus(status).phrase if status in _STATUSES else ""
        await self._send(h11.Response(status_code=status, headers=listed, reason=reason.encode()))

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._transport.write(data)
        # A pass of the loop between two chunks makes it likely that they travel apart.
        await asyncio.sleep(0)
        await self._writable.wait()

    async def _break(self, how: Ending) -> None:
        """End the connection so, or say nothing more until the client gives up."""
        if how == "silence":
            await asyncio.Event().wait()
        if how == "reset":
            self._reset()
        else:
            self._transport.close()
        raise _Broken

    def _reset(self) -> None:
        # Closing with a linger time of 0 sends RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()
