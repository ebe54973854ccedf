"""The HTTP side of a simulated model server. Imports h11, so it is imported only where that is known to exist."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from random import Random
from typing import Any, Final, TypeAlias, final
from urllib.parse import unquote, urlsplit

import attrs

from inferencepool.errors import InvalidRequestError
from inferencepool.lab._http import HttpConnection, HttpRequest
from inferencepool.lab.model_servers._driver import EngineDriver, Generation
from inferencepool.lab.model_servers._engine import EngineRequest
from inferencepool.lab.model_servers._metrics_page import render_metrics
from inferencepool.lab.model_servers._openai import Answer, Inquiry, error_document, models_document, read_inquiry
from inferencepool.lab.model_servers._options import SimulatorOptions
from inferencepool.lab.model_servers._received import ReceivedRequest

__all__ = ["SimulatorService"]

_JSON: Final = {"content-type": "application/json; charset=utf-8"}
_EVENTS: Final = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
_PAGE: Final = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}


@attrs.frozen
class _Response:
    """A whole response."""

    body: bytes
    headers: Mapping[str, str] = _JSON
    status: int = 200


@final
class _Connection(HttpConnection):
    """One client of a service."""

    def __init__(self, service: SimulatorService, max_body: int) -> None:
        super().__init__(max_body=max_body)
        self._service = service

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._service.join(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._service.leave(self)
        super().connection_lost(error)

    async def answer(self, request: HttpRequest) -> None:
        await self._service.answer(request, self)


# What serves a path; None if it has sent the response itself.
_Handler: TypeAlias = Callable[[HttpRequest, _Connection], Awaitable[_Response | None]]


@final
class SimulatorService:
    """
    The paths of one simulated server, until it is stopped. Used on the event loop's thread.

    Attributes:
        received: The latest requests for completions, oldest first.
        refusal: Status with which completions and health checks are refused; None while they are served.
        address: What it tells clients about itself, in the header ``x-served-by``.
        streaming: Responses of events that have begun and are not over.
    """

    def __init__(self, options: SimulatorOptions, received: deque[ReceivedRequest]) -> None:
        """Serve as *options* say, and add what arrives to *received*."""
        self.received = received
        self.refusal: int | None = None
        self.address = ""
        self.streaming = 0
        self._options = options
        self._driver = EngineDriver(options)
        self._rng = Random(options.seed)
        self._answers = 0
        self._listener: asyncio.Server | None = None
        self._is_over = False
        self._connections: set[_Connection] = set()
        self._routes: dict[str, tuple[str, _Handler]] = {
            "/v1/completions": ("POST", partial(self._serve, chat=False)),
            "/v1/chat/completions": ("POST", partial(self._serve, chat=True)),
            "/v1/models": ("GET", self._models),
            "/health": ("GET", self._health),
            "/metrics": ("GET", self._metrics),
            "/debug/requests": ("GET", self._debug_requests),
        }

    @property
    def driver(self) -> EngineDriver:
        """The engine behind it."""
        return self._driver

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; give the address that was bound."""
        loop = asyncio.get_running_loop()
        listening = asyncio.ensure_future(
            loop.create_server(lambda: _Connection(self, self._options.max_body_size), host, port)
        )
        try:
            # Given up in the middle, it would leave a listener that nobody knows.
            self._listener = await asyncio.shield(listening)
        except BaseException:
            await asyncio.wait([listening])
            if listening.exception() is None:
                listening.result().close()
            raise
        bound_host, bound_port = self._listener.sockets[0].getsockname()[:2]
        return bound_host, bound_port

    async def stop(self) -> None:
        """Close the listener and every connection."""
        self._is_over = True
        self._driver.close()
        if self._listener is not None:
            self._listener.close()
        # At once: a request in flight is ended as by a server that dies, and nobody gets an answer any more.
        connections = tuple(self._connections)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.wait_closed() for connection in connections))

    def join(self, connection: _Connection) -> None:
        """Note that *connection* is open. One that was accepted before the end and is made after it ends at once."""
        self._connections.add(connection)
        if self._is_over:
            connection.abort()

    def leave(self, connection: _Connection) -> None:
        """Note that *connection* is over."""
        self._connections.discard(connection)

    async def answer(self, request: HttpRequest, connection: _Connection) -> None:
        """Answer *request*; what is not found or is too long, in OpenAI's form."""
        path = unquote(urlsplit(request.target).path)
        method, handler = self._routes.get(path, ("", None))
        response: _Response | None
        if request.body is None:
            response = _error(413, f"the body is longer than {self._options.max_body_size} bytes")
        elif handler is None:
            response = _refusal(HTTPStatus.NOT_FOUND, request.method, path)
        elif request.method not in (method, "HEAD" if method == "GET" else method):
            response = _refusal(HTTPStatus.METHOD_NOT_ALLOWED, request.method, path)
        else:
            response = await handler(request, connection)
        if response is not None:
            headers = {"x-served-by": self.address, **response.headers}
            await connection.reply(request, response.status, headers, response.body)

    async def _serve(self, request: HttpRequest, connection: _Connection, *, chat: bool) -> _Response | None:
        body = request.body or b""
        received = _remember(request, body)
        self.received.append(received)
        headers = {"x-received-length": str(received.length), "x-received-sha256": received.sha256}
        response: _Response | None
        if self.refusal is not None:
            response = _error(self.refusal, "this server was told to refuse requests")
        else:
            began = time.perf_counter()
            try:
                response = await self._answer(connection, read_inquiry(body, chat=chat), headers, began)
            except InvalidRequestError as error:
                response = _error(400, str(error))
            headers["server-timing"] = f"total;dur={(time.perf_counter() - began) * 1000:.3f}"
        return response and attrs.evolve(response, headers={**response.headers, **headers})

    def _stages(self, request: EngineRequest, began: float) -> str:
        """Tell how long *request*, which came at *began*, waited, was computed, and took in all to its first token."""
        stages = {
            "queue": (request.joined_at - request.submitted_at) / self._options.time_scale,
            "prefill": (request.began_at - request.joined_at) / self._options.time_scale,
            "total": time.perf_counter() - began,
        }
        return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in stages.items())

    async def _answer(
        self, connection: _Connection, inquiry: Inquiry, headers: Mapping[str, str], began: float
    ) -> _Response | None:
        if inquiry.model not in self._models_served:
            return _error(404, f"model {inquiry.model[:80]!r} does not exist here")
        length, finish_reason = self._length_of_answer(inquiry)
        self._answers += 1
        answer = Answer(
            id=f"{'chatcmpl' if inquiry.chat else 'cmpl'}-{self._answers}",
            inquiry=inquiry,
            created=int(time.time()),
            finish_reason=finish_reason,
        )
        adapter = inquiry.model if inquiry.model in self._options.adapters else ""
        with self._driver.generate(
            prompt_tokens=inquiry.prompt_tokens, output_tokens=length, adapter=adapter, prompt=inquiry.prompt
        ) as generation:
            if inquiry.stream:
                written = await generation.progress()
                stages = {"x-served-by": self.address, "server-timing": self._stages(generation.request, began)}
                self.streaming += 1
                try:
                    await _stream(connection, answer, generation, {**headers, **stages}, written)
                finally:
                    self.streaming -= 1
                return None
            while not generation.request.finished:
                await generation.progress()
        return _json(answer.document(length, generation.request.cached))

    def _length_of_answer(self, inquiry: Inquiry) -> tuple[int, str]:
        """Draw how many tokens the answer has, and tell why it ends there."""
        options = self._options
        typical = options.typical_output_tokens
        drawn = max(1, inquiry.min_tokens, self._rng.randint((typical + 1) // 2, typical + typical // 2))
        room = options.max_model_tokens - inquiry.prompt_tokens
        limit = inquiry.max_tokens if inquiry.max_tokens is not None else max(1, room)
        if inquiry.ignore_eos or drawn > limit:
            return limit, "length"
        return drawn, "stop"

    @property
    def _models_served(self) -> tuple[str, ...]:
        return (*self._options.models, *self._options.adapters)

    async def _models(self, _: HttpRequest, __: _Connection) -> _Response:
        parents = dict.fromkeys(self._options.models) | dict.fromkeys(self._options.adapters, self._options.models[0])
        return _json(models_document(parents, int(time.time())))

    async def _health(self, _: HttpRequest, __: _Connection) -> _Response:
        return _Response(b"", {}, self.refusal or 200)

    async def _metrics(self, _: HttpRequest, __: _Connection) -> _Response:
        return _Response(render_metrics(self._options, self._driver.load(), time.time()).encode(), _PAGE)

    async def _debug_requests(self, _: HttpRequest, __: _Connection) -> _Response:
        return _json({"requests": [each.to_dict() for each in self.received]})


async def _stream(
    connection: _Connection, answer: Answer, generation: Generation, headers: Mapping[str, str], written: int
) -> None:
    """Send *answer* as events. The status comes with the first token, as from a server that waits for it."""
    told, last = 0, generation.request.finished
    await connection.send_head(200, {**headers, **_EVENTS})
    if first := answer.first_chunk():
        await connection.send(_event(first))
    while True:
        await connection.send(_event(answer.chunk(told, written, last=last)))
        if last:
            break
        told, written, last = written, await generation.progress(), generation.request.finished
    if answer.inquiry.include_usage:
        await connection.send(_event(answer.usage_chunk(written, generation.request.cached)))
    await connection.send(b"data: [DONE]\n\n")
    await connection.end_message()


def _remember(request: HttpRequest, body: bytes) -> ReceivedRequest:
    return ReceivedRequest(
        method=request.method,
        path=request.target,
        headers=request.headers,
        length=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
    )


def _json(document: object, status: int = 200) -> _Response:
    return _Response(json.dumps(document).encode(), status=status)


def _error(status: int, message: str) -> _Response:
    return _json(error_document(status, message), status)


def _refusal(status: HTTPStatus, method: str, path: str) -> _Response:
    return _error(status, f"{method} {path}: {status.phrase}")


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"
