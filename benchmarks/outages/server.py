"""
A model server that falls ill when it is told: ``python -m benchmarks.outages.server PORT``. It prints its port.

It answers chats as a stream, runs a few at once, and has a page of metrics as vLLM's. Standard input tells its fault in
a line: nothing for none, a status to answer at once, ``slow``, or ``stuck``, in which it answers nothing while its page
tells what it told last.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from typing import Final

from aiohttp import web

__all__ = ["ADAPTER"]

ADAPTER: Final = "llama-3-sql"
_AT_ONCE: Final = 8
# A request takes so many seconds, so that a server has five under way at 60 a second, as the goal says; the first byte
# comes after a part of that.
_SECONDS: Final = (0.15, 0.5)
_FIRST_BYTE: Final = 0.25
_SLOWER: Final = 5
_PAGE = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{model_name="llama-3"}} {running}
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{model_name="llama-3"}} {waiting}
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{model_name="llama-3"}} {usage}
"""


class Server:
    """One server."""

    def __init__(self) -> None:
        self.fault = ""
        self.headers: dict[str, str] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._here = 0
        self._page = ""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer, as far as the fault lets it."""
        model = (await request.json())["model"]
        if self.fault == "adapter" and model == ADAPTER:
            return web.Response(status=404, headers=self.headers)
        if self.fault.isdigit():
            return web.Response(status=int(self.fault), headers=self.headers)
        self._here += 1
        try:
            async with self._room:
                seconds = random.uniform(*_SECONDS) * (_SLOWER if self.fault == "slow" else 1)
                await asyncio.sleep(seconds * _FIRST_BYTE)
                while self.fault == "stuck":  # noqa: ASYNC110 - a thread tells
                    await asyncio.sleep(0.1)
                response = web.StreamResponse(headers={"content-type": "text/event-stream", **self.headers})
                with contextlib.suppress(ConnectionError):  # the client has given up
                    await response.prepare(request)
                    await response.write(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')
                    await asyncio.sleep(seconds * (1 - _FIRST_BYTE))
                    await response.write(b"data: [DONE]\n\n")
                return response
        finally:
            self._here -= 1

    async def metrics(self, _: web.Request) -> web.Response:
        """Tell how many requests are here."""
        if self.fault != "stuck" or not self._page:
            running = min(self._here, _AT_ONCE)
            usage = running / (2 * _AT_ONCE)
            self._page = _PAGE.format(running=running, waiting=self._here - running, usage=usage)
        return web.Response(text=self._page)


async def _serve(port: int) -> None:
    server = Server()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", server.chat)
    application.router.add_get("/metrics", server.metrics)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    server.headers["x-server"] = str(runner.addresses[0][1])
    print(server.headers["x-server"], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        server.fault = line.strip()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
