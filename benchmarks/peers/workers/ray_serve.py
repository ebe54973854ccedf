"""
Ray Serve's routers and the prefix tree of ``ray.serve.llm``.

The routers get stand-ins for replicas, which tell their queue lengths and take no requests; a pick ends where Serve
would send one. They are asked as Serve's own handle asks them, since a handle cannot be had without sending.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from random import Random
from time import time
from types import SimpleNamespace
from typing import Any

from benchmarks.peers.prompts import SYSTEM
from benchmarks.peers.protocol import InProcess, Way, resident_memory, serve

# Read as it starts. Queue lengths stay known, so no pick waits for a replica to tell its own.
os.environ["RAY_SERVE_QUEUE_LENGTH_CACHE_TIMEOUT_S"] = "100000"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# The cluster is this machine, and lives as long as the measurement; otherwise a token is left in the home folder.
os.environ["RAY_AUTH_MODE"] = "disabled"

import ray

# `ray.serve.llm.request_router` has this class under the same name, as a subclass that adds nothing; importing it takes
# an installed vLLM or SGLang.
from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_aware_router import (
    PrefixCacheAffinityRouter,
)
from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_tree import (
    PrefixTree,
    PrefixTreeActor,
)
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    RequestMetadata,
)
from ray.serve._private.request_router import PowerOfTwoChoicesRequestRouter
from ray.serve.request_router import PendingRequest

__all__ = ["WAYS"]

_DEPLOYMENT = DeploymentID(name="llama", app_name="benchmark")
_NUMBERS = count()


class _Replica:
    """What the routers read of a replica."""

    availability_zone = None
    max_ongoing_requests = 100
    multiplexed_model_ids: frozenset[str] = frozenset()

    def __init__(self, number: int, queue_length: int) -> None:
        self.replica_id = ReplicaID(f"pod-{number}", _DEPLOYMENT)
        self.node_id = f"node-{number}"
        self._queue_length = queue_length

    async def get_queue_len(self, *, deadline_s: float) -> int:
        """Tell the queue length; *deadline_s* is met."""
        del deadline_s
        return self._queue_length


class PowerOfTwo(InProcess):
    """The shortest queue of two replicas, counted while the request is there."""

    _longest = 39

    def __init__(self, size: int) -> None:
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start(size))

    async def _start(self, size: int) -> None:
        self._router = self._make_router()
        rng = Random(size)
        self._router.update_replicas([_Replica(number, rng.randrange(self._longest + 1)) for number in range(size)])
        # The router asks the new replicas for their queue lengths in tasks of its own.
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    def _make_router(self) -> Any:
        return PowerOfTwoChoicesRequestRouter(
            deployment_id=_DEPLOYMENT, handle_source=DeploymentHandleSource.REPLICA, use_replica_queue_len_cache=True
        )

    def request(self, text: str) -> Any:
        """Give a call with the prompt as its argument."""
        number = str(next(_NUMBERS))
        return PendingRequest([SimpleNamespace(prompt=text)], {}, RequestMetadata(number, number))

    def pick_all(self, requests: Sequence[Any]) -> list[Any]:
        """Pick, count, report and release, as Serve does."""
        return self._loop.run_until_complete(self._pick_all(requests))

    async def _pick_all(self, requests: Sequence[Any]) -> list[Any]:
        router, picked = self._router, []
        for request in requests:
            replica = await router._choose_replica_for_request(request)
            router.on_send_request(replica.replica_id)
            router.on_request_routed(request, replica.replica_id, None)
            router.decrement_queue_len_cache(replica.replica_id)
            picked.append(replica.replica_id)
        return picked


class PrefixAffinity(PowerOfTwo):
    """``PrefixCacheAffinityRouter``, whose tree lives in an actor, a process of its own; all queues are empty."""

    _longest = 0

    def _make_router(self) -> Any:
        ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
        self._tree = PrefixTreeActor.remote()
        router = PrefixCacheAffinityRouter(
            deployment_id=_DEPLOYMENT, handle_source=DeploymentHandleSource.REPLICA, use_replica_queue_len_cache=True
        )
        router.initialize_state(tree_actor=self._tree)
        return router

    async def _start(self, size: int) -> None:
        await super()._start(size)
        for replica_id in self._router.curr_replicas:
            self._router.on_request_routed(self.request(SYSTEM), replica_id, None)

    def memory(self) -> int:
        """Give the memory of the actor's process."""
        return resident_memory(ray.get(self._tree.__ray_call__.remote(lambda _: os.getpid())))

    def close(self) -> None:
        """End Ray."""
        ray.shutdown()


class TreeAlone(InProcess):
    """The tree as an object of this process, without router, load or actor: a lookup, one at random, an insert."""

    def __init__(self, size: int) -> None:
        self._rng = Random(size)
        self._tenants = [f"pod-{number}" for number in range(size)]
        self._tree = PrefixTree()
        self._tree.add_tenants(self._tenants, time())
        for tenant in self._tenants:
            self._tree.insert(SYSTEM, tenant, time())

    def request(self, text: str) -> str:
        """Give the text."""
        return text

    def pick_all(self, requests: Sequence[str]) -> list[str]:
        """Look up, choose, insert."""
        tree, choose, picked = self._tree, self._rng.choice, []
        for text in requests:
            _, tenants = tree.prefix_match(text, self._tenants)
            tenant = choose(tenants)
            tree.insert(text, tenant, time())
            picked.append(tenant)
        return picked


WAYS: Mapping[str, Callable[[int], Way]] = {
    "power of two choices": PowerOfTwo,
    "PrefixCacheAffinityRouter": PrefixAffinity,
    "PrefixTree alone": TreeAlone,
}

if __name__ == "__main__":
    serve(WAYS)
