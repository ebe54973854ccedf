"""A model server that answers every API: it tells what arrived, as one document or as events."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, final

from aiohttp import web

__all__ = ["EVENTS", "EchoServer"]

#: How many events a streamed answer has before its end.
EVENTS: Final = 5
_END: Final = b"data: [DONE]\n\n"


@final
class EchoServer:
    """
    Answers at every path with what arrived there: as events where the body asks for a stream, else as JSON.

    Attributes:
        address: ``ip:port``.
        arrived: How many requests came.
    """

    def __init__(self) -> None:
        self.address = ""
        self.arrived = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen at a free port."""
        application = web.Application(client_max_size=64 << 20)
        application.add_routes([web.route("*", "/{path:.*}", self._serve)])
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.001)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.arrived += 1
        body = await request.read()
        told = {
            "method": request.method,
            "path": request.path_qs,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        headers = {"x-served-by": self.address}
        if not _is_streamed(body):
            return web.json_response(told, headers=headers)
        response = web.StreamResponse(headers={**headers, "content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(EVENTS):
            await response.write(b"data: " + json.dumps({**told, "number": number}).encode() + b"\n\n")
        await response.write(_END)
        await response.write_eof()
        return response


def _is_streamed(body: bytes) -> bool:
    try:
        document: Any = json.loads(body)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("stream") is True
