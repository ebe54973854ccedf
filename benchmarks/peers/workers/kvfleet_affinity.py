"""kvfleet's strategy and its affinity scorer, without the HTTP call that its router makes in the same breath."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from kvfleet.adapters.base import ChatMessage, EndpointHealth
from kvfleet.cache.fingerprints import PromptFingerprinter
from kvfleet.cache.kv_affinity import KVAffinityScorer
from kvfleet.config.schema import ModelConfig
from kvfleet.router.scoring import ScoringContext
from kvfleet.router.strategies import get_strategy

from benchmarks.peers.prompts import SYSTEM
from benchmarks.peers.protocol import InProcess, Way, serve

__all__ = ["WAYS"]


def _endpoints(size: int) -> list[str]:
    return [f"http://10.{i >> 16}.{i >> 8 & 255}.{i & 255}:8000" for i in range(size)]


class HybridScore(InProcess):
    """The default strategy, with the health of every endpoint known."""

    def __init__(self, size: int) -> None:
        rng = Random(size)
        self._models = [ModelConfig(name=f"pod-{i}", endpoint=url) for i, url in enumerate(_endpoints(size))]
        health = {
            model.endpoint: EndpointHealth(
                endpoint=model.endpoint, healthy=True, latency_ms=rng.random() * 1000, queue_depth=rng.randrange(40)
            )
            for model in self._models
        }
        self._context = ScoringContext(endpoint_health=health)
        self._strategy = get_strategy("hybrid_score")

    def request(self, text: str) -> str:
        """Give the text; this strategy does not look at it."""
        return text

    def pick_all(self, requests: Sequence[str]) -> list[str]:
        """Rank all."""
        select = self._strategy.select
        return [select(self._models, self._context)[0].endpoint for _ in requests]


class Affinity(InProcess):
    """A fingerprint, the endpoint with the most affinity, and a record of it."""

    def __init__(self, size: int) -> None:
        self._urls = _endpoints(size)
        self._fingerprinter = PromptFingerprinter()
        self._scorer = KVAffinityScorer()
        self._scorer.register_endpoints("llama", self._urls)

    def request(self, text: str) -> list[ChatMessage]:
        """Give the messages of a chat."""
        return [
            ChatMessage(role="system", content=text[: len(SYSTEM)]),
            ChatMessage(role="user", content=text[len(SYSTEM) :]),
        ]

    def pick_all(self, requests: Sequence[list[ChatMessage]]) -> list[str]:
        """Pick and record."""
        picked = []
        for messages in requests:
            fingerprint = self._fingerprinter.fingerprint(messages)
            endpoint, _ = self._scorer.best_endpoint(fingerprint, "llama", self._urls)
            self._scorer.record_routing(fingerprint, endpoint)
            picked.append(endpoint)
        return picked


WAYS: Mapping[str, Callable[[int], Way]] = {"hybrid_score": HybridScore, "KVAffinityScorer": Affinity}

if __name__ == "__main__":
    serve(WAYS)
