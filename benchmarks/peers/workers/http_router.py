"""
Routers that are programs of their own: sglang-router, vllm-router and smg, in front of model servers that only answer.

They cannot be asked for a pick alone. So what counts is the CPU time of the router's process for a whole proxied
request, one at a time, and ``round_robin`` beside the policies tells how much of that is proxying. Between its turns
the process is stopped, so that it does not disturb the others.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryFile
from time import clock_gettime_ns, monotonic, sleep
from typing import Any

from benchmarks.peers.protocol import Way, resident_memory, serve

__all__ = ["WAYS"]

_START_SECONDS = 240
# A router that takes less than this share of a core for a moment has caught up with what it does besides.
_CATCH_UP_SECONDS, _MOMENT, _IDLE_SHARE = 1.0, 0.2, 0.05
_MODEL = {"id": "llama", "object": "model", "created": 0, "owned_by": "stub", "max_model_len": 32_768}
# What the routers ask a model server about itself; each asks for some of it.
_ABOUT = {
    "model_path": "llama",
    "served_model_name": "llama",
    "is_generation": True,
    "object": "list",
    "data": [_MODEL],
}


def _answer(path: str, body: bytes, address: str) -> Any:
    """Answer as a model server at *address* does, with its address as the text of the completion."""
    if path == "/v1/completions":
        return {
            "id": "1",
            "object": "text_completion",
            "created": 0,
            "model": "llama",
            "choices": [{"index": 0, "text": address, "finish_reason": "stop", "logprobs": None}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
    if path == "/v1/completions/render":
        # vllm-router has every model server turn the prompt into tokens before it chooses; 4 characters make one here.
        text = json.loads(body)["prompt"].encode().ljust(64)
        return [{"token_ids": [token >> 8 for token in array("I", text[: len(text) // 4 * 4])]}]
    return _ABOUT


class _ModelServers:
    """Answers every prompt with the address that it went to, at *size* loopback addresses, in a thread."""

    def __init__(self, size: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        self._sockets = [socket.socket() for _ in range(size)]
        port = 0
        for index, listening in enumerate(self._sockets):
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((f"127.1.{index >> 8}.{index & 255}", port))
            port = port or listening.getsockname()[1]
        self.urls = [f"http://127.1.{index >> 8}.{index & 255}:{port}" for index in range(size)]
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=self._loop.run_until_complete, args=[self._run()], daemon=True).start()
        self._ready.wait()

    async def _run(self) -> None:
        self._done = asyncio.Event()
        servers = [await asyncio.start_server(self._answer, sock=listening) for listening in self._sockets]
        self._ready.set()
        await self._done.wait()
        for server in servers:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A ValueError is HTTP/2, which sglang-router tries first.
        with suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                _, path, _ = head.split(" ", 2)
                answer = json.dumps(_answer(path, body, writer.get_extra_info("sockname")[0])).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
                    + answer
                )
                await writer.drain()
        writer.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._done.set)


class Proxied(Way):
    """A router's process, asked over one connection that stays open."""

    def __init__(self, policy: str, size: int) -> None:
        """Start the router in front of *size* model servers, and wait until it serves."""
        self._stack = ExitStack()
        try:
            servers = _ModelServers(size)
            self._stack.callback(servers.close)
            self._port, metrics_port = _free_port(), _free_port()
            self._log = TemporaryFile()  # noqa: SIM115  closed with the stack
            self._stack.callback(self._log.close)
            command = [*_command(), "--host", "127.0.0.1", "--port", str(self._port), "--policy", policy]
            # Health checks once a day: a check of 1,000 model servers costs more than the requests in between.
            command += ["--prometheus-port", str(metrics_port), "--log-level", "error"]
            command += ["--health-check-interval-secs", "86400", "--worker-urls", *servers.urls]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
            self._stack.callback(self._process.wait)
            self._stack.callback(self._process.kill)
            self._wait_until_serving(size)
            self.rest()
        except BaseException:
            self._stack.close()
            raise

    def _wait_until_serving(self, size: int) -> None:
        deadline = monotonic() + _START_SECONDS
        while not self._serves(size):
            if self._process.poll() is not None or monotonic() > deadline:
                self._log.seek(0)
                message = f"the router does not serve: {self._log.read()[-300:].decode(errors='replace')}"
                raise RuntimeError(message)
            sleep(0.2)
        self._wait_until_idle(_START_SECONDS)

    def _serves(self, size: int) -> bool:
        """Tell whether it knows all model servers and answers; it may begin with one of them."""
        try:
            self._connection = HTTPConnection("127.0.0.1", self._port, timeout=_START_SECONDS)
            if json.loads(self._get("GET", "/workers"))["total"] < size:
                return False
            self._ask(self.request("Hello"))
        except (OSError, RuntimeError):
            return False
        return True

    def request(self, text: str) -> bytes:
        """Give the body of a completion."""
        return json.dumps({"model": "llama", "prompt": text, "max_tokens": 1}).encode()

    def pick_all(self, requests: Sequence[bytes]) -> list[str]:
        """Send one request after the other through the router."""
        answers = [self._ask(body) for body in requests]
        return [json.loads(answer)["choices"][0]["text"] for answer in answers]

    def _ask(self, body: bytes) -> bytes:
        return self._get("POST", "/v1/completions", body)

    def _get(self, method: str, path: str, body: bytes | None = None) -> bytes:
        self._connection.request(method, path, body, {"content-type": "application/json"})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != HTTPStatus.OK:
            message = f"status {response.status}: {answer[:200]!r}"
            raise RuntimeError(message)
        return answer

    def wake(self) -> None:
        """Let the process run, and give it time to catch up with what it does besides requests."""
        self._process.send_signal(signal.SIGCONT)
        self._wait_until_idle(_CATCH_UP_SECONDS)

    def _wait_until_idle(self, most_seconds: float) -> None:
        deadline = monotonic() + most_seconds
        while monotonic() < deadline:
            before = self.clock()
            sleep(_MOMENT)
            if self.clock() - before < _IDLE_SHARE * _MOMENT * 1e9:
                return

    def rest(self) -> None:
        """Stop the process."""
        self._process.send_signal(signal.SIGSTOP)

    def clock(self) -> int:
        """Give the nanoseconds that all threads of the router's process ran."""
        # The number of a process's own clock, as clock_getcpuclockid(3) makes it on Linux.
        return clock_gettime_ns((~self._process.pid << 3) | 2)

    def memory(self) -> int:
        """Give the memory of the router's process."""
        return resident_memory(self._process.pid)

    def close(self) -> None:
        """End the router and the model servers."""
        self._stack.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _command() -> list[str]:
    """Find which of the three is installed here."""
    bin_folder = Path(sys.executable).parent
    installed = {one.name for one in distributions()}
    if "smg" in installed:
        return [str(bin_folder / "smg"), "launch"]
    if "vllm-router" in installed:
        return [str(bin_folder / "vllm-router")]
    return [sys.executable, "-m", "sglang_router.launch_router"]


WAYS: Mapping[str, Callable[[int], Way]] = {
    policy: partial(Proxied, policy) for policy in ("power_of_two", "cache_aware", "round_robin")
}

if __name__ == "__main__":
    os.environ["NO_PROXY"] = "*"
    serve(WAYS)
