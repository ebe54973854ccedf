"""The HTTP side of a simulated model server. Imports aiohttp, so it is imported only where that is known to exist."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, final

from aiohttp import web

from inferencepool.errors import InvalidRequestError
from inferencepool.lab.model_servers._driver import EngineDriver, Generation
from inferencepool.lab.model_servers._engine import EngineRequest
from inferencepool.lab.model_servers._metrics_page import render_metrics
from inferencepool.lab.model_servers._openai import Answer, Inquiry, error_document, models_document, read_inquiry
from inferencepool.lab.model_servers._options import SimulatorOptions
from inferencepool.lab.model_servers._received import ReceivedRequest

__all__ = ["SimulatorService"]

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
        self._runner: web.AppRunner | None = None

    @property
    def driver(self) -> EngineDriver:
        """The engine behind it."""
        return self._driver

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; give the address that was bound."""
        application = web.Application(client_max_size=self._options.max_body_size, middlewares=[self._frame])
        application.add_routes(
            [
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._chat_completions),
                web.get("/v1/models", self._models),
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/debug/requests", self._debug_requests),
            ]
        )
        # A request in flight is ended at once when the server stops, as by a server that dies.
        runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.001)
        await runner.setup()
        self._runner = runner
        starting = asyncio.ensure_future(web.TCPSite(runner, host, port).start())
        try:
            # Given up in the middle, it would leave a listener that nobody knows.
            await asyncio.shield(starting)
        except BaseException:
            await asyncio.wait([starting])
            await self.stop()
            raise
        bound_host, bound_port = runner.addresses[0][:2]
        return bound_host, bound_port

    async def stop(self) -> None:
        """Close the listener and every connection."""
        self._driver.close()
        if self._runner is not None:
            # At once: while the others are being closed, nobody is to get an answer on any of them.
            for connection in self._runner.server.connections if self._runner.server is not None else ():
                if connection.transport is not None:
                    connection.transport.abort()
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _frame(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Answer what was not found or is too long in OpenAI's form, and tell who answers."""
        try:
            response = await handler(request)
        except web.HTTPRequestEntityTooLarge:
            response = _error(413, f"the body is longer than {self._options.max_body_size} bytes")
        except web.HTTPException as error:
            response = _error(error.status, f"{request.method} {request.path}: {error.reason}")
        if not response.prepared:
            response.headers["x-served-by"] = self.address
        return response

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, chat=False)

    async def _chat_completions(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, chat=True)

    async def _serve(self, request: web.Request, *, chat: bool) -> web.StreamResponse:
        body = await request.read()
        received = _remember(request, body)
        self.received.append(received)
        headers = {
            "x-served-by": self.address,
            "x-received-length": str(received.length),
            "x-received-sha256": received.sha256,
        }
        if self.refusal is not None:
            response: web.StreamResponse = _error(self.refusal, "this server was told to refuse requests")
        else:
            began = time.perf_counter()
            try:
                response = await self._answer(request, read_inquiry(body, chat=chat), headers, began)
            except InvalidRequestError as error:
                response = _error(400, str(error))
            headers["server-timing"] = f"total;dur={(time.perf_counter() - began) * 1000:.3f}"
        if not response.prepared:
            response.headers.update(headers)
        return response

    def _stages(self, request: EngineRequest, began: float) -> str:
        """Tell how long *request*, which came at *began*, waited, was computed, and took in all to its first token."""
        stages = {
            "queue": (request.joined_at - request.submitted_at) / self._options.time_scale,
            "prefill": (request.began_at - request.joined_at) / self._options.time_scale,
            "total": time.perf_counter() - began,
        }
        return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in stages.items())

    async def _answer(
        self, request: web.Request, inquiry: Inquiry, headers: Mapping[str, str], began: float
    ) -> web.StreamResponse:
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
                headers = {**headers, "server-timing": self._stages(generation.request, began)}
                self.streaming += 1
                try:
                    return await self._stream(request, answer, generation, headers, written)
                finally:
                    self.streaming -= 1
            while not generation.request.finished:
                await generation.progress()
        return web.json_response(answer.document(length, generation.request.cached))

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

    @staticmethod
    async def _stream(
        request: web.Request, answer: Answer, generation: Generation, headers: Mapping[str, str], written: int
    ) -> web.StreamResponse:
        kind = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        response = web.StreamResponse(headers={**headers, **kind})
        # The status comes with the first token, as from a server that waits for it.
        told, last = 0, generation.request.finished
        await response.prepare(request)
        if first := answer.first_chunk():
            await response.write(_event(first))
        while True:
            await response.write(_event(answer.chunk(told, written, last=last)))
            if last:
                break
            told, written, last = written, await generation.progress(), generation.request.finished
        if answer.inquiry.include_usage:
            await response.write(_event(answer.usage_chunk(written, generation.request.cached)))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    @property
    def _models_served(self) -> tuple[str, ...]:
        return (*self._options.models, *self._options.adapters)

    async def _models(self, _: web.Request) -> web.Response:
        parents = dict.fromkeys(self._options.models) | dict.fromkeys(self._options.adapters, self._options.models[0])
        return web.json_response(models_document(parents, int(time.time())))

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=self.refusal or 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        page = render_metrics(self._options, self._driver.load(), time.time())
        return web.Response(text=page, headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _debug_requests(self, _: web.Request) -> web.Response:
        return web.json_response({"requests": [each.to_dict() for each in self.received]})


def _remember(request: web.Request, body: bytes) -> ReceivedRequest:
    return ReceivedRequest(
        method=request.method,
        path=request.path_qs,
        headers=tuple((name.lower(), value) for name, value in request.headers.items()),
        length=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
    )


def _error(status: int, message: str) -> web.Response:
    return web.json_response(error_document(status, message), status=status)


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"
