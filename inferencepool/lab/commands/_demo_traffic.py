"""The requests of ``demo``, and how long they took."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from itertools import islice
from random import Random
from typing import Any

import aiohttp
import attrs

from inferencepool.lab.commands._demo_servers import MODEL

__all__ = ["RATE", "Traffic", "measure_overhead", "requests_of", "send", "send_on"]

#: Requests in a second that are sent as long as the pool is kept.
RATE = 10

_TIMEOUT = aiohttp.ClientTimeout(total=120)
_WORDS = "the pool of model servers picks one for every request that comes with a prompt".split()  # noqa: SIM905 - text
# System prompts, which requests share, and the words of one, each about a token: more than one server remembers, and
# fewer than all of them do.
_SYSTEM_PROMPTS, _SYSTEM_WORDS = 24, 640
_QUIET: dict[str, Any] = {"model": MODEL, "prompt": "one", "max_tokens": 1}


@attrs.define(eq=False)
class Traffic:
    """
    What came of some requests.

    Attributes:
        served_by: How many each server answered.
        seconds: How long each took that was answered, to its last byte.
        failed: How many were not answered, by what came instead.
    """

    served_by: Counter[str] = attrs.field(factory=Counter)
    seconds: list[float] = attrs.field(factory=list)
    failed: Counter[str] = attrs.field(factory=Counter)


def requests_of(count: int, seed: int) -> list[dict[str, Any]]:
    """Make the bodies of *count* requests: chats and completions that begin with one of a few texts, some as events."""
    return list(islice(_requests(seed), count))


def _requests(seed: int) -> Iterator[dict[str, Any]]:
    rng = Random(seed)
    systems = [_text(rng, _SYSTEM_WORDS) for _ in range(_SYSTEM_PROMPTS)]
    while True:
        yield _request(rng, rng.choice(systems))


def _request(rng: Random, system: str) -> dict[str, Any]:
    question = _text(rng, rng.choice((10, 40, 160)))
    body: dict[str, Any] = {"model": MODEL, "max_tokens": rng.randint(4, 24), "ignore_eos": True}
    if rng.random() < 0.25:  # noqa: PLR2004 - one in four
        body["stream"] = True
    if rng.random() < 0.5:  # noqa: PLR2004 - one in two
        return body | {"messages": [{"role": "system", "content": system}, {"role": "user", "content": question}]}
    return body | {"prompt": f"{system} {question}"}


def _text(rng: Random, words: int) -> str:
    return " ".join(rng.choices(_WORDS, k=words))


async def send(
    url: str, bodies: Sequence[dict[str, Any]], concurrency: int, halfway: Callable[[], object] = lambda: None
) -> Traffic:
    """
    Send requests, so many at a time, and wait for all answers.

    Args:
        url: Where to, without a path.
        bodies: What to send.
        concurrency: How many at a time.
        halfway: Is called when half of them are on their way.
    """
    traffic = Traffic()
    async with aiohttp.ClientSession(timeout=_TIMEOUT, connector=aiohttp.TCPConnector(limit=0)) as client:
        remaining = iter(list(enumerate(bodies)))

        async def work(remaining: Iterator[tuple[int, dict[str, Any]]]) -> None:
            for number, body in remaining:
                if number == len(bodies) // 2:
                    halfway()
                await _ask(client, url, body, traffic)

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work(remaining))
    return traffic


async def send_on(url: str, seed: int) -> None:
    """
    Send requests without an end, `RATE` in a second, until this is cancelled.

    What comes of them is not counted. No more than that many are under way: a pool that does not answer gets no more.
    """
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT, connector=aiohttp.TCPConnector(limit=0)) as client,
        asyncio.TaskGroup() as group,
    ):
        places = asyncio.Semaphore(RATE)

        async def ask(body: dict[str, Any]) -> None:
            try:
                await _ask(client, url, body, Traffic())
            finally:
                places.release()

        for body in _requests(seed):
            await places.acquire()
            group.create_task(ask(body))
            await asyncio.sleep(1 / RATE)


async def _ask(client: aiohttp.ClientSession, url: str, body: dict[str, Any], traffic: Traffic) -> None:
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    began = time.perf_counter()
    try:
        async with client.post(f"{url}{path}", json=body) as response:
            answer = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        traffic.failed[type(error).__name__] += 1
        return
    ended = b"data: [DONE]" in answer if body.get("stream") else True
    if response.status != HTTPStatus.OK or not ended:
        is_cut = response.status == HTTPStatus.OK
        traffic.failed["events without an end" if is_cut else f"status {response.status}"] += 1
        return
    traffic.seconds.append(time.perf_counter() - began)
    traffic.served_by[response.headers.get("x-served-by", "")] += 1


async def measure_overhead(urls: Sequence[str], rounds: int) -> list[list[float]]:
    """
    Tell what is between client and server: for each of *urls*, the seconds of each request beyond the server's own.

    One request at a time, the URLs in turn.
    """
    overheads: list[list[float]] = [[] for _ in urls]
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as client:
        for _ in range(rounds):
            for url, overhead in zip(urls, overheads, strict=True):
                began = time.perf_counter()
                try:
                    async with client.post(f"{url}/v1/completions", json=_QUIET) as response:
                        await response.read()
                except (aiohttp.ClientError, TimeoutError):
                    continue  # the requests that are counted will fail as well, and be told of
                took = time.perf_counter() - began
                if timing := response.headers.get("server-timing"):
                    overhead.append(took - float(timing.partition("dur=")[2]) / 1000)
    return overheads
