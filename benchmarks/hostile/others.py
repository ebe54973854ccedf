"""
The well-behaved: ``python -m benchmarks.hostile.others GATEWAY PICKER_PORT SECURE``, until standard input ends.

Four clients send chats through the gateway at a steady rate, whether or not the ones before were answered. Beside them
a newcomer connects to the picker now and then, as a gateway does that is started, and asks for its health. Printed is a
line as soon as all of them are served steadily, and at the end what became of each: when it was due, the seconds until
its end, and whether it failed.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import sys
from collections.abc import Coroutine
from time import monotonic
from typing import Any

import aiohttp

from benchmarks.hostile.bodies import honest_chat
from benchmarks.hostile.frames import GREETING, HEALTH, data_frame, grpc_message, headers_frame, split_frames

_CLIENTS = 4
_PER_SECOND = 25
_CHATS = 16
_TIMEOUT = 10.0
_NEWCOMERS_PER_SECOND = 2
# Served steadily is who had no more than so many requests under way, for so many looks.
_STEADY = 16
_LOOKS = 5
_LOOK = 0.1
_MOST_LOOKS = 200
_SERVING = b"\x08\x01"
_OK = 200


class _Others:
    """What became of all requests."""

    def __init__(self, gateway: str, picker_port: int, *, secure: bool) -> None:
        self._url = f"http://{gateway}/v1/chat/completions"
        self._picker_port = picker_port
        self._tls = ssl._create_unverified_context() if secure else None  # noqa: S323 - it signs itself
        if self._tls is not None:
            self._tls.set_alpn_protocols(["h2"])
        self._running: set[asyncio.Task[None]] = set()
        self.ended = False
        self.chats: list[tuple[float, float, bool]] = []
        self.newcomers: list[tuple[float, float, bool]] = []

    async def client(self, number: int) -> None:
        """Send chats until the end, and wait for what is under way."""
        bodies = [honest_chat(number * _CHATS + each) for each in range(_CHATS)]
        due = monotonic() + random.random() / _PER_SECOND
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(_TIMEOUT)) as session:
            while not self.ended:
                await asyncio.sleep(due - monotonic())
                self._begin(self._chat(session, random.choice(bodies), due))
                # Not in step with anything else that has a rhythm.
                due += random.uniform(0.5, 1.5) / _PER_SECOND
            await self._finish()

    async def come(self) -> None:
        """Connect until the end, and wait for what is under way."""
        due = monotonic()
        while not self.ended:
            await asyncio.sleep(due - monotonic())
            self._begin(self._newcomer(due))
            due += 1 / _NEWCOMERS_PER_SECOND
        await self._finish()

    async def become_steady(self) -> bool:
        """Wait until the start is over, for some time at most; False if this machine has no time for so much."""
        steady = 0
        for _ in range(_MOST_LOOKS):
            await asyncio.sleep(_LOOK)
            steady = steady + 1 if self.chats and len(self._running) <= _STEADY else 0
            if steady == _LOOKS:
                return True
        return False

    async def _finish(self) -> None:
        if self._running:
            await asyncio.wait(self._running)

    def _begin(self, sending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(sending)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _chat(self, session: aiohttp.ClientSession, body: bytes, due: float) -> None:
        failed = True
        try:
            headers = {"content-type": "application/json"}
            async with session.post(self._url, data=body, headers=headers) as response:
                await response.read()
                failed = response.status != _OK
        except (aiohttp.ClientError, TimeoutError):
            pass
        self.chats.append((due, monotonic() - due, failed))

    async def _newcomer(self, due: float) -> None:
        failed = True
        try:
            async with asyncio.timeout(_TIMEOUT):
                failed = not await self._ask_health()
        except (OSError, TimeoutError):
            pass
        self.newcomers.append((due, monotonic() - due, failed))

    async def _ask_health(self) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._picker_port, ssl=self._tls)
        try:
            writer.write(GREETING + headers_frame(1, HEALTH) + data_frame(1, grpc_message(b""), last=True))
            buffer = bytearray()
            while data := await reader.read(65_536):
                buffer += data
                if any(frame.endswith(_SERVING) for frame in split_frames(buffer)):
                    return True
            return False
        finally:
            writer.transport.abort()


async def _run(gateway: str, picker_port: int, *, secure: bool) -> None:
    others = _Others(gateway, picker_port, secure=secure)
    tasks = [asyncio.create_task(others.client(number)) for number in range(_CLIENTS)]
    tasks.append(asyncio.create_task(others.come()))
    print("steady" if await others.become_steady() else "busy", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    others.ended = True
    await asyncio.gather(*tasks)
    print(json.dumps({"chats": others.chats, "newcomers": others.newcomers}), flush=True)


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2]), secure=sys.argv[3] == "true"))
