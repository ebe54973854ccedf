"""A client that sends each request of a trace at its time, and reads the events of the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import attrs

from benchmarks.live.cases import MODEL
from benchmarks.live.rig import Rig
from inferencepool.lab.simulation import Arrival

__all__ = ["Answered", "play"]

# The last event with the usage, and the end mark, are shorter.
_TAIL_BYTES = 2048
_WARM_UPS = 16
_REST_SECONDS = 0.5


@attrs.frozen(kw_only=True)
class Answered:
    """
    One request that was answered. All times are in seconds; stages are those of the server that answered.

    Attributes:
        late: How much later than its time it was sent.
        first_token: From when it was sent to the first bytes of the answer.
        end: From when it was sent to the end of the answer.
        server: Who answered, by the number of the server.
        prompt_tokens: Length of its prompt.
        cached_tokens: How much of it the server had in its cache.
        queue: How long it waited for the engine's step.
        prefill: How long the engine computed until the first token.
        served: From its last byte to the first token, by the server's clock.
    """

    late: float
    first_token: float
    end: float
    server: int
    prompt_tokens: int
    cached_tokens: int
    queue: float
    prefill: float
    served: float


async def play(rig: Rig, arrivals: Sequence[Arrival]) -> list[Answered]:
    """
    Send *arrivals* at their times, each on a connection of its own where those that there are have work.

    Raises:
        RuntimeError: One was not answered with 200.
    """
    numbers = {address: number for number, address in enumerate(rig.addresses)}
    bodies = [_body(arrival.prompt.to_bytes().decode(), arrival.output_tokens) for arrival in arrivals]
    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        # Connections, and code that runs for the first time, are no part of what is measured.
        await asyncio.gather(
            *(_send(http, rig.url, _body(f"{each:04}", 1), "", 0.0, numbers) for each in range(_WARM_UPS))
        )
        loop = asyncio.get_running_loop()
        # Until no metrics show them any more.
        start = loop.time() + _REST_SECONDS
        sending = []
        for arrival, body in zip(arrivals, bodies, strict=True):
            at = start + arrival.at
            await asyncio.sleep(at - loop.time())
            sending.append(asyncio.create_task(_send(http, rig.url, body, arrival.session, at, numbers)))
        return list(await asyncio.gather(*sending))


def _body(prompt: str, output_tokens: int) -> bytes:
    document = {
        "model": MODEL,
        "prompt": prompt,
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(document).encode()


async def _send(
    http: aiohttp.ClientSession, url: str, body: bytes, session: str, at: float, numbers: dict[str, int]
) -> Answered:
    loop = asyncio.get_running_loop()
    headers = {"content-type": "application/json"} | ({"x-session-id": session} if session else {})
    sent = loop.time()
    async with http.post(f"{url}/v1/completions", data=body, headers=headers) as response:
        if response.status != 200:
            message = f"answered with {response.status}: {(await response.text())[:200]}"
            raise RuntimeError(message)
        first, tail = 0.0, b""
        async for chunk in response.content.iter_any():
            first = first or loop.time()
            tail = (tail + chunk)[-_TAIL_BYTES:]
        end = loop.time()
    usage = _usage(tail)
    stages = _stages(response.headers["server-timing"])
    return Answered(
        late=sent - at,
        first_token=first - sent,
        end=end - sent,
        server=numbers[response.headers["x-served-by"]],
        prompt_tokens=usage["prompt_tokens"],
        cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
        queue=stages["queue"],
        prefill=stages["prefill"],
        served=stages["total"],
    )


def _usage(tail: bytes) -> dict[str, Any]:
    """Read the usage of the last event that has one."""
    events = [line[6:] for line in tail.splitlines() if line.startswith(b"data: {")]
    usage: dict[str, Any] = json.loads(events[-1])["usage"]
    return usage


def _stages(header: str) -> dict[str, float]:
    parts = (part.partition(";dur=") for part in header.split(", "))
    return {name: float(milliseconds) / 1000 for name, _, milliseconds in parts}
