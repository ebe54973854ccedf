"""HTTP/1.1 for the servers of the laboratory: h11 reads and writes, asyncio moves the bytes. Imported where h11 is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

import attrs
import h11

__all__ = ["HttpConnection", "HttpRequest"]

_LOG = logging.getLogger(__name__)
_STATUSES = frozenset(HTTPStatus)
# A client may still be sending a body that was refused; closing at once would take the answer away from it.
_LINGER_SECONDS = 1.0


@attrs.frozen(kw_only=True)
class HttpRequest:
    """
    One request.

    Attributes:
        method: Its method.
        target: Path and query, as they came.
        headers: Names, in lower case, and values, in order; repeated ones are repeated.
        body: The body; None for one that is longer than the server takes. The connection ends after the answer to it.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None


class HttpConnection(asyncio.Protocol, ABC):
    """
    One connection. Lives on the server's loop; a task of its own serves it until either side ends it.

    A client that hangs up cancels the answer that is under way. Who inherits defines `answer`.
    """

    def __init__(self, *, max_body: int) -> None:
        """Take bodies of up to *max_body* bytes."""
        self._max_body = max_body
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER)
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport
        self._task: asyncio.Task[None]

    @abstractmethod
    async def answer(self, request: HttpRequest) -> None:
        """Answer *request*, with `reply`, or with `send_head`, `send` and `end_message`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._transport = cast("asyncio.Transport", transport)
        self._task = self._loop.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        self._http.receive_data(data)
        self._arrived.set()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - that of asyncio
        """Stop serving."""
        self._task.cancel()

    def pause_writing(self) -> None:
        """Wait for a client that reads slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self._writable.set()

    def close(self) -> None:
        """End the connection once everything was sent."""
        self._transport.close()

    def abort(self) -> None:
        """End the connection without sending what is not sent yet."""
        self._transport.abort()

    def reset(self) -> None:
        """End the connection as a broken one."""
        # Closing with a linger time of 0 sends RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until it is served no more."""
        await asyncio.wait([self._task])

    async def reply(self, request: HttpRequest, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Answer *request* with a whole response, in one piece."""
        head = self._head(status, {"content-length": str(len(body)), **headers})
        events: list[h11.Event] = [head, h11.EndOfMessage()]
        if request.method != "HEAD":
            events.insert(1, h11.Data(data=body))
        await self._write(b"".join(self._http.send(event) or b"" for event in events))

    async def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Begin a response; without a content length its body goes in chunks."""
        await self._send(self._head(status, headers))

    async def send(self, data: bytes) -> None:
        """Send a part of a response's body, as one chunk."""
        await self._send(h11.Data(data=data))

    async def end_message(self) -> None:
        """End a response."""
        await self._send(h11.EndOfMessage())

    async def _serve(self) -> None:
        try:
            while (request := await self._next_request()) is not None:
                await self.answer(request)
                if request.body is None:
                    await self._linger()
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    break
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self._transport.write(
                    f"HTTP/1.1 {error.error_status_hint} Bad Request\r\nconnection: close\r\n\r\n".encode()
                )
        except Exception:  # noqa: BLE001 - whatever it is, it concerns this connection alone
            _LOG.exception("a request was not answered")
            if self._http.our_state is h11.SEND_RESPONSE:
                await self._send(self._head(500, {"content-length": "0", "connection": "close"}))
        self._transport.close()

    async def _next_request(self) -> HttpRequest | None:
        """Wait for a request; None when there comes none."""
        head: h11.Request | None = None
        body: bytearray | None = bytearray()
        while body is not None:
            match await self._next_event():
                case h11.Request() as found:
                    head = found
                case h11.Data(data=data):
                    body += data
                    if len(body) > self._max_body:
                        body = None
                case h11.EndOfMessage():
                    break
                case _:
                    return None
        assert head is not None  # noqa: S101 - h11 tells the head before the rest
        return HttpRequest(
            method=head.method.decode("ascii"),
            target=head.target.decode("latin-1"),
            headers=tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers),
            body=None if body is None else bytes(body),
        )

    async def _next_event(self) -> object:
        """Wait for what the client says next."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._arrived.clear()
            await self._arrived.wait()
        return event

    async def _linger(self) -> None:
        """Take in for a moment what the client still sends, so that it gets to read why it was refused."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while isinstance(await self._next_event(), h11.Data):
                    pass

    def _head(self, status: int, headers: Mapping[str, str]) -> h11.Response:
        listed = list({"date": formatdate(usegmt=True), **headers}.items())
        if self._http.their_state is h11.SEND_BODY:
            # The rest of the body is not read.
            listed.append(("connection", "close"))
        reason = HTTPStatus(status).phrase if status in _STATUSES else ""
        return h11.Response(status_code=status, headers=listed, reason=reason.encode())

    async def _send(self, event: h11.Event) -> None:
        await self._write(self._http.send(event) or b"")

    async def _write(self, data: bytes) -> None:
        if data:
            self._transport.write(data)
        # A pass of the loop between two chunks makes it likely that they travel apart.
        await asyncio.sleep(0)
        await self._writable.wait()
