"""litellm's Router: ``get_available_deployment`` and its asynchronous twin."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.peers.prompts import SYSTEM
from benchmarks.peers.protocol import InProcess, Way, serve

# Read as it starts: prices come from the package, not from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from litellm import Router
from litellm.router_utils.pre_call_checks.prompt_caching_deployment_check import (
    PromptCachingDeploymentCheck,
)

__all__ = ["WAYS"]

_MODEL = "llama"


def _router(size: int, **options: Any) -> Any:
    deployments = [
        {
            "model_name": _MODEL,
            "litellm_params": {
                "model": "openai/llama",
                "api_base": f"http://10.{i >> 16}.{i >> 8 & 255}.{i & 255}:8000/v1",
                "api_key": "none",
            },
            "model_info": {"id": f"pod-{i}"},
        }
        for i in range(size)
    ]
    return Router(model_list=deployments, **options)


class ByLoad(InProcess):
    """The synchronous call, which litellm's own measurements find faster than the asynchronous one."""

    def __init__(self, size: int, strategy: str) -> None:
        self._router = _router(size, routing_strategy=strategy)

    def request(self, text: str) -> list[dict[str, str]]:
        """Give the messages of a chat."""
        return [{"role": "user", "content": text}]

    def pick_all(self, requests: Sequence[list[dict[str, str]]]) -> list[Any]:
        """Pick; nothing is reserved, so nothing is released."""
        pick = self._router.get_available_deployment
        return [pick(_MODEL, messages)["model_info"]["id"] for messages in requests]


class PromptCaching(InProcess):
    """
    The check ``prompt_caching``, which only the asynchronous call makes.

    What it remembers comes from litellm's callback after a response; the callback is part of what is timed.
    """

    def __init__(self, size: int) -> None:
        self._router = _router(size, optional_pre_call_checks=["prompt_caching"])
        callbacks = self._router.optional_callbacks
        self._check = next(one for one in callbacks if isinstance(one, PromptCachingDeploymentCheck))
        self._loop = asyncio.new_event_loop()

    def request(self, text: str) -> list[dict[str, Any]]:
        """Give the messages of a chat, marked to be cached as this check demands."""
        parts = [("system", text[: len(SYSTEM)]), ("user", text[len(SYSTEM) :])]
        return [
            {"role": role, "content": [{"type": "text", "text": part, "cache_control": {"type": "ephemeral"}}]}
            for role, part in parts
        ]

    def pick_all(self, requests: Sequence[list[dict[str, Any]]]) -> list[Any]:
        """Pick, and report a response."""
        return self._loop.run_until_complete(self._pick_all(requests))

    async def _pick_all(self, requests: Sequence[list[dict[str, Any]]]) -> list[Any]:
        picked = []
        pick, respond = self._router.async_get_available_deployment, self._check.async_log_success_event
        for messages in requests:
            deployment = await pick(_MODEL, {}, messages)
            response = {
                "call_type": "acompletion",
                "model": deployment["litellm_params"]["model"],
                "messages": messages,
                "model_id": deployment["model_info"]["id"],
            }
            await respond({"standard_logging_object": response}, None, None, None)
            picked.append(response["model_id"])
        return picked


WAYS: Mapping[str, Callable[[int], Way]] = {
    "simple-shuffle": lambda size: ByLoad(size, "simple-shuffle"),
    "least-busy": lambda size: ByLoad(size, "least-busy"),
    "simple-shuffle, prompt_caching": PromptCaching,
}

if __name__ == "__main__":
    serve(WAYS)
