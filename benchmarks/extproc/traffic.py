"""Cheap HTTP/1.1 on both sides of Envoy: a client that repeats one request, and a server for all endpoints."""

from __future__ import annotations

import asyncio
from typing import final

__all__ = ["MODEL", "SERVED_MODEL", "Upstream", "json_body", "run_load"]

#: The model that requests ask for, and the one that events name.
MODEL, SERVED_MODEL = "llama", "llama-3-70b"

_CRLF = b"\r\n\r\n"
_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"token "}}]}\n\n'
_EVENT_OF_MODEL = (
    b'data: {"id":"chatcmpl-9f0c","object":"chat.completion.chunk","created":1764540000,"model":"%b",'
    b'"choices":[{"index":0,"delta":{"content":"token "},"finish_reason":null}]}\n\n'
) % SERVED_MODEL.encode()


def json_body(size: int) -> bytes:
    """Give a chat request of about *size* bytes."""
    lead, tail = b'{"model":"%b","max_tokens":16,"messages":[{"role":"user","content":"' % MODEL.encode(), b'"}]}'
    text = b"The quick brown fox jumps over the lazy dog. " * (size // 45 + 1)
    return lead + text[: max(1, size - len(lead) - len(tail))] + tail


@final
class _Endpoint(asyncio.Protocol):
    """Answers every request alike, once its body is in."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._seen = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        seen = self._seen
        seen += data
        head, found, _ = seen[:65536].partition(_CRLF)
        if not found:
            return
        if b"transfer-encoding: chunked" in head:
            done = seen.endswith(b"0\r\n\r\n")
        else:
            _, length, rest = head.partition(b"content-length: ")
            done = len(seen) - len(head) - 4 >= (int(rest.split(b"\r\n")[0]) if length else 0)
        if done:
            seen.clear()
            self._transport.write(self._answer)


class Upstream:
    """All endpoints: one server at every loopback address."""

    def __init__(self, chunks: int = 0, *, names_model: bool = False) -> None:
        """Answer with *chunks* server-sent events, with all that servers write if they name the model; 0 for JSON."""
        head = b"HTTP/1.1 200 OK\r\ncontent-type: "
        if chunks:
            event = _EVENT_OF_MODEL if names_model else _EVENT
            piece = b"%x\r\n%b\r\n" % (len(event), event)
            self._answer = head + b"text/event-stream\r\ntransfer-encoding: chunked" + _CRLF
            self._pieces = [piece] * chunks + [b"0\r\n\r\n"]
        else:
            body = b'{"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}'
            self._answer = head + b"application/json\r\ncontent-length: %d" % len(body) + _CRLF + body
            self._pieces = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen, and give the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, "0.0.0.0", 0)  # noqa: S104 - loopback addresses differ
        return int(self._server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        """Stop listening."""
        self._server.close()

    def _connect(self) -> asyncio.Protocol:
        return _Streaming(self._answer, self._pieces, self._tasks) if self._pieces else _Endpoint(self._answer)


@final
class _Streaming(asyncio.Protocol):
    """Answers with pieces, each written on its own, so that the proxy sees them one by one."""

    def __init__(self, head: bytes, pieces: list[bytes], tasks: set[asyncio.Task[None]]) -> None:
        self._head, self._pieces, self._tasks = head, pieces, tasks
        self._seen = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if self._seen.endswith((b"0\r\n\r\n", b"}]}")):
            self._seen.clear()
            task = asyncio.ensure_future(self._send())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self) -> None:
        self._transport.write(self._head)
        for piece in self._pieces:
            self._transport.write(piece)
            await asyncio.sleep(0.002)


@final
class _Client(asyncio.Protocol):
    """One connection: sends the same request until the shared count is used up."""

    def __init__(self, request: bytes, left: list[int]) -> None:
        self._request, self._left = request, left
        self._seen = bytearray()
        self.done = asyncio.get_running_loop().create_future()
        self.wrong = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if not self._left[0]:
            self._transport.close()
            return
        self._left[0] -= 1
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        seen = self._seen
        seen += data
        if b"transfer-encoding: chunked" in seen[:2048]:
            whole = seen.endswith(b"0\r\n\r\n")
        else:
            head, found, body = seen.partition(_CRLF)
            _, length, rest = head.partition(b"content-length: ")
            whole = bool(found) and len(body) >= (int(rest.split(b"\r\n")[0]) if length else 0)
        if whole:
            self.wrong += not seen.startswith(b"HTTP/1.1 200")
            seen.clear()
            self._next()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def run_load(port: int, body: bytes, *, requests: int, concurrency: int) -> int:
    """Send *requests* chat requests to Envoy at *port*, *concurrency* at a time; gives how many went wrong."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: pool\r\ncontent-type: application/json\r\n"
        b"accept: */*\r\nuser-agent: benchmark/1\r\ncontent-length: %d" % len(body)
    )
    left = [requests]
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(concurrency):
        _, client = await loop.create_connection(lambda: _Client(head + _CRLF + body, left), "127.0.0.1", port)
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    return left[0] + sum(client.wrong for client in clients)
