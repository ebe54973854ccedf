"""A client of HTTP/2 that does exactly what a test tells it to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes
from hyperframe.frame import Frame, GoAwayFrame

from tests.patience import PATIENCE
from tests.runtime.grpc.serving import ECHO, LOOPBACK

Header = tuple[str, str]


def message(data: bytes, flag: int = 0) -> bytes:
    """Give *data* as a gRPC message."""
    return bytes((flag,)) + len(data).to_bytes(4, "big") + data


def messages(data: bytes) -> list[bytes]:
    """Give the gRPC messages in *data*, all whole."""
    found = []
    while data:
        size = int.from_bytes(data[1:5], "big")
        assert len(data) >= 5 + size
        found.append(data[5 : 5 + size])
        data = data[5 + size :]
    return found


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection; the server may have closed it before."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


class _Client(H2Connection):
    """Goes on after a GOAWAY, as clients do; the library would say nothing more."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = ErrorCodes(frame.error_code)
        event.last_stream_id = frame.last_stream_id
        return [], [event]


class Peer:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = _Client(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8")
        )
        self.events: list[Event] = []
        self.is_at_end = False
        # Bytes that one read of the socket gave, for each of them.
        self.reads: list[bytes] = []
        self.opens_windows = True
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(
        cls,
        port: int,
        *,
        host: str = LOOPBACK,
        tls: ssl.SSLContext | None = None,
        settings: dict[SettingCodes | int, int] | None = None,
    ) -> Self:
        """Connect and send the preface."""
        reader, writer = await asyncio.open_connection(
            host, port, ssl=tls, server_hostname="localhost" if tls else None
        )
        peer = cls(reader, writer)
        peer.h2.initiate_connection()
        if settings:
            peer.h2.update_settings(settings)
        await peer.flush()
        return peer

    async def flush(self) -> None:
        """Send what was prepared."""
        self._writer.write(self.h2.data_to_send())
        await self._writer.drain()

    async def raw(self, data: bytes) -> None:
        """Send what was prepared, and then *data*."""
        self._writer.write(self.h2.data_to_send() + data)
        await self._writer.drain()

    async def frames(self, frames: Iterable[Frame]) -> None:
        """Send *frames* beside the connection's state, until the server closes."""
        try:
            await self.raw(b"".join(frame.serialize() for frame in frames))
        except ConnectionError:
            self.is_at_end = True

    def open(self, path: str = ECHO, *more: Header, end: bool = False, **changes: str | None) -> int:
        """Prepare the headers of an RPC; give its stream."""
        stream_id = self.h2.get_next_available_stream_id()
        fields: dict[str, str | None] = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "test",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        fields |= {name.replace("_", "-").replace("pseudo-", ":"): value for name, value in changes.items()}
        headers = [(name, value) for name, value in fields.items() if value is not None]
        self.h2.send_headers(stream_id, [*headers, *more], end_stream=end)
        return stream_id

    def send(self, stream_id: int, *data: bytes, end: bool = False) -> None:
        """Prepare gRPC messages."""
        self.h2.send_data(stream_id, b"".join(message(item) for item in data), end_stream=end)

    async def read(self) -> bool:
        """Read once; False at the end of the connection."""
        try:
            data = await self._reader.read(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            self.is_at_end = True
            return False
        self.reads.append(data)
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if isinstance(event, DataReceived) and self.opens_windows and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        with suppress(ConnectionError):
            await self.flush()
        return True

    async def until(self, condition: Callable[[], bool]) -> None:
        """Read until *condition* holds; the connection must not end before."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                assert await self.read(), "the server closed the connection"

    async def settled(self) -> None:
        """Read until the settings of both sides hold, and forget the reads."""
        await self.until(lambda: any(isinstance(event, SettingsAcknowledged) for event in self.events))
        self.reads.clear()

    async def until_end(self) -> None:
        """Read until the server closes the connection."""
        async with asyncio.timeout(PATIENCE):
            while await self.read():
                pass

    async def over(self, stream_id: int) -> None:
        """Read until a stream is over."""
        await self.until(lambda: self.ended(stream_id) or self.reset(stream_id) is not None)

    async def close(self) -> None:
        """Close the connection."""
        await close(self._writer)

    async def abort(self) -> None:
        """Cut the connection."""
        self._writer.transport.abort()
        await close(self._writer)

    def data(self, stream_id: int) -> bytes:
        """Give the data received on a stream."""
        return b"".join(e.data for e in self.events if isinstance(e, DataReceived) and e.stream_id == stream_id)

    def headers(self, stream_id: int) -> dict[str, str]:
        """Give the headers and trailers received on a stream, as one."""
        found: dict[str, str] = {}
        for event in self.events:
            if isinstance(event, ResponseReceived | TrailersReceived) and event.stream_id == stream_id:
                found |= {str(name): str(value) for name, value in event.headers}
        return found

    def status(self, stream_id: int) -> int | None:
        """Give the gRPC status of a stream."""
        status = self.headers(stream_id).get("grpc-status")
        return None if status is None else int(status)

    def ended(self, stream_id: int) -> bool:
        """Tell whether the server ended a stream."""
        return any(isinstance(e, StreamEnded) and e.stream_id == stream_id for e in self.events)

    def reset(self, stream_id: int) -> int | None:
        """Give the code with which the server reset a stream."""
        for event in self.events:
            if isinstance(event, StreamReset) and event.stream_id == stream_id:
                return int(event.error_code)
        return None

    def gone(self) -> list[ErrorCodes | int | None]:
        """Give the codes of the GOAWAY frames received."""
        return [e.error_code for e in self.events if isinstance(e, ConnectionTerminated)]
