"""Clients of the picker's own port that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from time import monotonic
from typing import final

import attrs

from benchmarks.hostile.frames import (
    EXT_PROC,
    GREETING,
    body_message,
    data_frame,
    grpc_message,
    headers_frame,
    headers_message,
    is_last,
    split_frames,
)

__all__ = ["GzipBombs", "RpcBursts", "Silence"]

_AT_ONCE = 50
_PAUSE = 0.05
_FRAME = 16_384


@attrs.frozen
class Silence:
    """
    Connections that are kept open without a word; one that is closed is replaced.

    Attributes:
        count: How many.
        greets: Whether each says the first words of HTTP/2, and so is no handshake that runs out.
    """

    count: int
    greets: bool = True

    async def run(self, host: str, port: int, seconds: float) -> int:
        """Hold them for some seconds; gives how many were opened."""
        loop, end, opened = asyncio.get_running_loop(), monotonic() + seconds, 0
        held: set[asyncio.BaseTransport] = set()
        while monotonic() < end:
            opening = [
                asyncio.wait_for(loop.create_connection(lambda: _Silent(held, greets=self.greets), host, port), 1)
                for _ in range(min(_AT_ONCE, self.count - len(held)))
            ]
            opened += len(opening)
            await asyncio.gather(*opening, return_exceptions=True)
            await asyncio.sleep(_PAUSE)
        for transport in list(held):
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
        return opened


@final
class _Silent(asyncio.Protocol):
    def __init__(self, held: set[asyncio.BaseTransport], *, greets: bool) -> None:
        self._held, self._greets = held, greets

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._held.add(transport)
        if self._greets:
            transport.write(GREETING)

    def connection_lost(self, _: Exception | None) -> None:
        self._held.discard(self._transport)


@attrs.frozen
class GzipBombs:
    """
    RPCs whose bodies, compressed to a thousandth, never come to their end; empty pieces keep them alive.

    Attributes:
        rpcs: How many are held.
        pieces: Messages of each.
        size: Bytes of a message when it is inflated.
    """

    rpcs: int
    pieces: int
    size: int

    async def run(self, host: str, port: int, seconds: float) -> int:
        """Hold them for some seconds; gives how many bytes were sent."""
        piece = grpc_message(body_message(b" " * self.size), compressed=True)
        empty = grpc_message(body_message(b""))
        sent, end, reader = 0, monotonic() + seconds, asyncio.create_task(_until(seconds))
        connection = await asyncio.open_connection(host, port)
        reading = asyncio.create_task(_discard(connection[0]))
        writer = connection[1]
        try:
            writer.write(GREETING)
            for number in range(self.rpcs):
                stream = 2 * number + 1
                opening = grpc_message(headers_message(last=False))
                parts = [headers_frame(stream, EXT_PROC, grpc_encoding="gzip"), data_frame(stream, opening)]
                for _ in range(self.pieces):
                    parts += [data_frame(stream, piece[at : at + _FRAME]) for at in range(0, len(piece), _FRAME)]
                writer.writelines(parts)
                sent += sum(map(len, parts))
                await writer.drain()
                await asyncio.sleep(seconds / 4 / self.rpcs)
            while monotonic() < end:
                writer.writelines(data_frame(2 * number + 1, empty) for number in range(self.rpcs))
                await asyncio.sleep(1)
        except ConnectionError:
            # Refused as a whole.
            await reader
        finally:
            reader.cancel()
            reading.cancel()
            writer.transport.abort()
        return sent


@attrs.frozen
class RpcBursts:
    """
    Many RPCs in a single write, and again as soon as all are answered.

    Attributes:
        count: RPCs of a write.
    """

    count: int

    async def run(self, host: str, port: int, seconds: float) -> int:
        """Send for some seconds; gives how many were answered."""
        message = grpc_message(headers_message(last=True))
        end, answered = monotonic() + seconds, 0
        while monotonic() < end:
            reader, writer = await asyncio.open_connection(host, port)
            try:
                burst = [GREETING]
                for stream in range(1, 2 * self.count, 2):
                    burst += [headers_frame(stream, EXT_PROC), data_frame(stream, message, last=True)]
                writer.write(b"".join(burst))
                answered += await _within(end - monotonic(), _answers(reader, self.count))
            finally:
                writer.transport.abort()
        return answered


async def _until(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def _discard(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(_FRAME):
            pass


async def _within(seconds: float, answers: Awaitable[int]) -> int:
    try:
        return await asyncio.wait_for(answers, max(seconds, _PAUSE))
    except (TimeoutError, ConnectionError):
        await asyncio.sleep(_PAUSE)
        return 0


async def _answers(reader: asyncio.StreamReader, count: int) -> int:
    """Read until so many RPCs have ended, or the connection has."""
    ended, buffer = 0, bytearray()
    while ended < count and (data := await reader.read(1 << 20)):
        buffer += data
        ended += sum(map(is_last, split_frames(buffer)))
    return ended
