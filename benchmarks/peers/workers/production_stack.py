"""The Python router of vLLM's production stack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from vllm_router.routers.routing_logic import RoutingLogic, reconfigure_routing_logic

from benchmarks.peers.prompts import SYSTEM
from benchmarks.peers.protocol import InProcess, Way, serve

__all__ = ["WAYS"]


def _endpoints(size: int) -> list[Any]:
    # Both routers read the URL of an endpoint and nothing else.
    return [SimpleNamespace(url=f"http://10.{i >> 16}.{i >> 8 & 255}.{i & 255}:8000") for i in range(size)]


class RoundRobin(InProcess):
    """In turns; it looks at no load."""

    def __init__(self, size: int) -> None:
        self._endpoints = _endpoints(size)
        # A router is one of its kind in a process; this makes it anew.
        self._router = reconfigure_routing_logic(RoutingLogic.ROUND_ROBIN)

    def request(self, text: str) -> str:
        """Give the text; this router does not look at it."""
        return text

    def pick_all(self, requests: Sequence[str]) -> list[Any]:
        """Pick."""
        route = self._router.route_request
        return [route(self._endpoints, {}, {}, None) for _ in requests]


class PrefixAware(InProcess):
    """A lookup in the trie, one of the endpoints found at random, an insert."""

    def __init__(self, size: int) -> None:
        self._endpoints = _endpoints(size)
        self._loop = asyncio.new_event_loop()
        self._router = reconfigure_routing_logic(RoutingLogic.PREFIXAWARE)
        self._loop.run_until_complete(self._send_to_all())

    async def _send_to_all(self) -> None:
        for endpoint in self._endpoints:
            await self._router.hashtrie.insert(SYSTEM, endpoint.url)

    def request(self, text: str) -> dict[str, str]:
        """Give the body of a completion."""
        return {"model": "llama", "prompt": text}

    def pick_all(self, requests: Sequence[dict[str, str]]) -> list[Any]:
        """Pick."""
        return self._loop.run_until_complete(self._pick_all(requests))

    async def _pick_all(self, requests: Sequence[dict[str, str]]) -> list[Any]:
        route = self._router.route_request
        return [await route(self._endpoints, {}, {}, None, request) for request in requests]


WAYS: Mapping[str, Callable[[int], Way]] = {"RoundRobinRouter": RoundRobin, "PrefixAwareRouter": PrefixAware}

if __name__ == "__main__":
    serve(WAYS)
