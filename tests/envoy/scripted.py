"""A model server that does exactly what a test tells it to."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from typing import Final, final

import attrs
from aiohttp import web

__all__ = ["Script", "ScriptedServer"]

_SCRIPT: Final = "x-script"


@final
@attrs.define(eq=False)
class Script:
    """
    One response, written step by step.

    Attributes:
        headers: What the request must carry to be answered by this script.
        arrived: Set when the whole request is there.
        gone: Set when the proxy has hung up before the end.
    """

    headers: dict[str, str]
    arrived: asyncio.Event = attrs.field(factory=asyncio.Event)
    gone: asyncio.Event = attrs.field(factory=asyncio.Event)
    _steps: asyncio.Queue[bytes | None] = attrs.field(factory=asyncio.Queue)
    _reset: bool = False

    def send(self, chunk: bytes) -> None:
        """Send a chunk; the first one sends the response's headers as well."""
        self._steps.put_nowait(chunk)

    def end(self) -> None:
        """End the response."""
        self._steps.put_nowait(None)

    def reset(self) -> None:
        """Break the connection off."""
        self._reset = True
        self._steps.put_nowait(None)

    async def play(self, request: web.Request) -> web.StreamResponse:
        """Answer *request*."""
        self.arrived.set()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        try:
            step = await self._steps.get()
            if not self._reset:
                await response.prepare(request)
            while step is not None:
                await response.write(step)
                step = await self._steps.get()
        except (asyncio.CancelledError, ConnectionError):
            self.gone.set()
            raise
        if self._reset:
            assert request.transport is not None
            request.transport.abort()
        elif response.prepared:
            await response.write_eof()
        return response


@final
class ScriptedServer:
    """
    Answers by script where a request names one; tells all others what arrived, at every path.

    Attributes:
        address: ``ip:port``.
        port: The port.
    """

    def __init__(self) -> None:
        self.address = ""
        self.port = 0
        self._scripts: dict[str, Script] = {}
        self._numbers = itertools.count()
        self._runner: web.AppRunner | None = None

    def script(self) -> Script:
        """Make a script for one request."""
        name = str(next(self._numbers))
        self._scripts[name] = Script({_SCRIPT: name})
        return self._scripts[name]

    async def start(self) -> None:
        """Listen at a free port."""
        application = web.Application(client_max_size=64 << 20)
        application.add_routes([web.route("*", "/{path:.*}", self._serve)])
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.001)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self.address = f"127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        script = self._scripts.pop(request.headers.get(_SCRIPT, ""), None)
        if script is not None:
            return await script.play(request)
        document = {
            "method": request.method,
            "path": request.path_qs,
            "headers": [[name.lower(), value] for name, value in request.headers.items()],
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "body": body.decode("latin-1") if len(body) < 10_000 else None,
        }
        return web.json_response(document, headers={"x-served-by": self.address})
