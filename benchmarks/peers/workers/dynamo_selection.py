"""NVIDIA Dynamo's SelectionService, in process."""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.peers.prompts import SYSTEM
from benchmarks.peers.protocol import InProcess, Way, serve

# It reads these as it starts. Without events from engines it remembers what it picked itself, and that is what the
# others do too.
os.environ["DYN_ROUTER_USE_KV_EVENTS"] = "false"
# It forgets after two minutes, and at 1,000 endpoints a round of all peers takes longer.
os.environ["DYN_ROUTER_TTL_SECS"] = "3600"
os.environ["DYN_LOG"] = "error"

from dynamo._core import SelectionService

__all__ = ["WAYS"]

_MODEL = "llama"
_BLOCK_TOKENS = 16
_CHARACTERS_OF_A_TOKEN = 4


class _Selection(InProcess):
    """A service with workers that engines' events do not reach."""

    def __init__(self, size: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._start(size))

    async def _start(self, size: int) -> None:
        self._service = SelectionService()
        for i in range(size):
            worker = {
                "worker_id": i,
                "model_name": _MODEL,
                "endpoint": f"http://10.{i >> 16}.{i >> 8 & 255}.{i & 255}:8000",
                "block_size": _BLOCK_TOKENS,
                # As much as our prefix tree assumes of an endpoint.
                "total_kv_blocks": 31_250,
                "max_num_batched_tokens": 8192,
            }
            record = await self._service.upsert_worker(worker)
            if record["lifecycle"] != "schedulable":
                message = f"worker {i} is {record['lifecycle']}: {record.get('not_schedulable_reasons')}"
                raise RuntimeError(message)

    def request(self, text: str) -> dict[str, Any]:
        """Give token ids, four characters each: it takes nothing else. Making them is not part of the pick."""
        padded = text.encode().ljust(_BLOCK_TOKENS * _CHARACTERS_OF_A_TOKEN)
        whole = len(padded) // _CHARACTERS_OF_A_TOKEN * _CHARACTERS_OF_A_TOKEN
        return {"model_name": _MODEL, "token_ids": [token >> 8 for token in array("I", padded[:whole])]}

    def close(self) -> None:
        """Stop its threads."""
        self._service.shutdown()


class Select(_Selection):
    """``select`` alone: a query, which remembers and reserves nothing."""

    def pick_all(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        """Select."""
        return self._loop.run_until_complete(self._pick_all(requests))

    async def _pick_all(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        select = self._service.select
        return [(await select(request))["worker_id"] for request in requests]


class Reserve(_Selection):
    """``select_and_reserve``, which remembers the prompt and counts its load, and ``free_reservation``."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._loop.run_until_complete(self._send_to_all(self.request(SYSTEM), size))

    async def _send_to_all(self, request: dict[str, Any], size: int) -> None:
        for i in range(size):
            await self._service.create_reservation({**request, "selection_id": str(i), "worker_id": i})
            await self._service.free_reservation(str(i))

    def pick_all(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        """Reserve and free."""
        return self._loop.run_until_complete(self._pick_all(requests))

    async def _pick_all(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        reserve, free, picked = self._service.select_and_reserve, self._service.free_reservation, []
        for request in requests:
            selection = await reserve(request)
            await free(selection["selection_id"])
            picked.append(selection["worker_id"])
        return picked


WAYS: Mapping[str, Callable[[int], Way]] = {"select": Select, "select_and_reserve": Reserve}

if __name__ == "__main__":
    serve(WAYS)
