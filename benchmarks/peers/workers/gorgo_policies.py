"""gorgo-lb's policies, with the counters and the trie that its caller has to keep."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from random import Random

from gorgo import RadixTrie, ReplicaSnapshot, RouteContext, get_policy, make_default_store

from benchmarks.peers.prompts import SYSTEM
from benchmarks.peers.protocol import InProcess, Way, serve

__all__ = ["WAYS"]

_CHARACTERS_OF_A_TOKEN = 4


def _tokens(text: str) -> list[int]:
    """Give token ids, four characters each."""
    encoded = text.encode()
    whole = len(encoded) // _CHARACTERS_OF_A_TOKEN * _CHARACTERS_OF_A_TOKEN
    return list(array("I", encoded[:whole]))


class _Policy(InProcess):
    """One policy, and what its caller keeps: counters of what is in flight, and which replica holds which tokens."""

    name = ""

    def __init__(self, size: int) -> None:
        self._urls = [f"http://10.{i >> 16}.{i >> 8 & 255}.{i & 255}:8000" for i in range(size)]
        self._metrics = {url: self._snapshot(Random(i)) for i, url in enumerate(self._urls)}
        self._tokens = dict.fromkeys(self._urls, 0)
        self._uncached = dict.fromkeys(self._urls, 0)
        self._requests = dict.fromkeys(self._urls, 0)
        self._trie = RadixTrie()
        self._store = make_default_store()
        self._route = get_policy(self.name).fn

    def _snapshot(self, _: Random) -> ReplicaSnapshot:
        return ReplicaSnapshot(num_running_reqs=0, num_queue_reqs=0, num_used_tokens=0, latency=0.0)

    def request(self, text: str) -> list[int]:
        """Give token ids: it takes nothing else. Making them is not part of the pick."""
        return _tokens(text)

    def _pick(self, tokens: list[int]) -> str:
        """Ask the policy, count what it chose as in flight, and count it off again."""
        size = len(tokens)
        context = RouteContext(
            replica_urls=self._urls,
            metrics=self._metrics,
            endpoints_queued_tokens=self._tokens,
            endpoints_queued_uncached_tokens=self._uncached,
            endpoints_inflight_requests=self._requests,
            radix_trie=self._trie,
            token_ids=tokens,
            request_tokens=size,
            hyperparameters=self._store,
        )
        target: str = self._route(context).target
        self._tokens[target] += size
        self._requests[target] += 1
        self._tokens[target] -= size
        self._requests[target] -= 1
        return target


class LeastRequest(_Policy):
    """``least-request``: all replicas, by requests that run or are in flight."""

    name = "least-request"

    def _snapshot(self, rng: Random) -> ReplicaSnapshot:
        return ReplicaSnapshot(
            num_running_reqs=rng.randrange(40), num_queue_reqs=0, num_used_tokens=rng.randrange(100_000), latency=0.0
        )

    def pick_all(self, requests: Sequence[list[int]]) -> list[str]:
        """Pick; it looks at no tokens."""
        return [self._pick(tokens) for tokens in requests]


class Gorgo(_Policy):
    """``gorgo``: all replicas, by network, uncached tokens and queued tokens; then an insert, as after a dispatch."""

    name = "gorgo"

    def __init__(self, size: int) -> None:
        super().__init__(size)
        for url in self._urls:
            self._trie.insert(_tokens(SYSTEM), url)

    def pick_all(self, requests: Sequence[list[int]]) -> list[str]:
        """Pick and insert."""
        picked = []
        for tokens in requests:
            target = self._pick(tokens)
            self._trie.insert(tokens, target)
            picked.append(target)
        return picked


WAYS: Mapping[str, Callable[[int], Way]] = {"least-request": LeastRequest, "gorgo": Gorgo}

if __name__ == "__main__":
    serve(WAYS)
