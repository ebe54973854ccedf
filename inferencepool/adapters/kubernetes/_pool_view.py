"""Everything that must be followed to know a pool, and what it means for a registry."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, final

from inferencepool.adapters.bodies import Loads, loads_json
from inferencepool.adapters.kubernetes._deltas import Deleted, Delta, Foreign, Listed, Unreadable, Upserted
from inferencepool.adapters.kubernetes._effects import Effect, ObjectivesChanged, RewritesChanged
from inferencepool.adapters.kubernetes._feed import Feed
from inferencepool.adapters.kubernetes._named_pool import NamedPool
from inferencepool.adapters.kubernetes._options import ReflectorOptions
from inferencepool.adapters.kubernetes._pods import read_pod
from inferencepool.adapters.kubernetes._pool_search import PoolMissing, PoolSearch
from inferencepool.adapters.kubernetes._reflector import Reflector
from inferencepool.adapters.kubernetes._resources import PODS
from inferencepool.adapters.kubernetes._rule_book import typed
from inferencepool.adapters.kubernetes._rules import Rules
from inferencepool.model import InferencePool, Pod
from inferencepool.registry import Change, PodDeleted, PodsListed, PodUpserted, PoolChanged

__all__ = ["PoolView"]

_NOT_SERVED = 404


@final
class PoolView:
    """
    What must be followed to know a pool, its pods and its rules, and what it means: changes for a registry, and rules.

    Drive each of `feeds`, and hand over to `take` what it gives. A pool takes effect together with its pods: when its
    selector changes, pods are followed by the old one until those of the new one are known. A pool that is gone or
    being deleted has no pods and no rules. One that cannot be read is as it was before. Not thread-safe.
    """

    def __init__(
        self,
        pool: NamedPool | InferencePool,
        *,
        options: ReflectorOptions | None = None,
        loads_pods: Loads = loads_json,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        """
        Begin with nothing known.

        Args:
            pool: The pool: by name, then it is followed, too, and with it its objectives and rewrites; or as it is to
                be, where there is no such object. Then its selector may be any, and there are no rules.
            options: How patient to be.
            loads_pods: Reads the JSON of pages and events of pods; it may leave out what `read_pod` does not look at.
            clock: Seconds, for the reflectors.
            rng: Source of the randomness in waiting times.
        """
        self._options = options if options is not None else ReflectorOptions()
        self._loads_pods = loads_pods
        self._clock = clock
        self._rng = rng if rng is not None else Random()
        self._namespace = pool.namespace
        self._pool: InferencePool | None = None
        self._pods: Reflector[Pod] | None = None
        # A pool that waits for the first list of its pods.
        self._next: tuple[InferencePool, Reflector[Pod]] | None = None
        self._pool_feed: Reflector[InferencePool] | None = None
        self._rules: Rules | None = None
        self._named: NamedPool | None = None
        self._search: PoolSearch | None = None
        self._found = ""
        self._settled = False
        if isinstance(pool, InferencePool):
            self._next = (pool, self._follow_pods(pool))
        else:
            self._named, self._pool_feed = pool, self._follow_pool(pool)
            self._rules = Rules(pool, self._options, self._clock, self._rng)

    @property
    def feeds(self) -> tuple[Feed[Any], ...]:
        """What is to be driven at present."""
        coming = self._next[1] if self._next is not None else None
        feeds = (
            self._pool_feed,
            self._pods,
            coming,
            self._search,
            *(self._rules.feeds if self._rules is not None else ()),
        )
        return tuple(feed for feed in feeds if feed is not None)

    @property
    def synced(self) -> bool:
        """Whether there is a pool, its pods are known, and its rules are, or were when they were last asked for."""
        return self._pool is not None and self._settled

    @property
    def age(self) -> float:
        """Seconds since the server was last heard about pods; 0 where there are none to hear about."""
        return self._pods.age if self._pods is not None else 0.0

    @property
    def absence(self) -> str:
        """Why there is no pool, in words that anybody may read; empty where there is one."""
        if self._named is None or self._pool is not None:
            return ""
        name = f"the pool {self._named.namespace}/{self._named.name} of {self._named.group}"
        if self._search is None:
            return f"{name} is not known yet"
        return f"{name} is not found; {self._found}" if self._found else f"{name} is not found"

    def take(self, feed: Feed[Any], deltas: Iterable[Any]) -> list[Effect]:
        """
        Take what *feed* gave, be it nothing, and give what that changes.

        Late news of a feed of the past change nothing.
        """
        effects: list[Effect] = []
        of_rules: list[Any] = []
        for delta in deltas:
            if isinstance(delta, Foreign):
                continue
            if feed is self._pods:
                effects.append(self._to_change(delta))
            elif feed is self._pool_feed:
                effects += self._take_pool(delta)
            elif isinstance(delta, PoolMissing):
                if feed is self._search:
                    self._found = delta.found
                    effects.append(delta)
            elif self._next is not None and feed is self._next[1]:
                effects += self._take_next(self._next[0], delta)
            else:
                of_rules.append(delta)
        if of_rules and self._rules is not None:
            changed = self._rules.take(feed, of_rules)
            effects += changed if self._pool is not None else ()
        if feed is self._pool_feed and feed.problem is not None and feed.problem.status == _NOT_SERVED:
            self._look_for_others()
        # Once is enough: rules that are known stay in force while those of another group are awaited.
        self._settled = self._settled or self._rules is None or self._rules.settled
        return effects

    def _follow_pods(self, pool: InferencePool) -> Reflector[Pod]:
        return Reflector(
            PODS,
            self._namespace,
            read_pod,
            label_selector=str(pool.selector),
            options=self._options,
            loads=self._loads_pods,
            clock=self._clock,
            rng=self._rng,
        )

    def _follow_pool(self, pool: NamedPool) -> Reflector[InferencePool]:
        resource = pool.resource
        return Reflector(
            resource,
            self._namespace,
            lambda document: InferencePool.from_dict(typed(document, resource)),
            name=pool.name,
            options=self._options,
            clock=self._clock,
            rng=self._rng,
        )

    def _to_change(self, delta: Listed[Pod] | Upserted[Pod] | Deleted | Unreadable) -> Change:
        match delta:
            case Upserted(pod):
                return PodUpserted(pod)
            case Listed(pods):
                return PodsListed(pods)
            case Deleted(name) | Unreadable(name):
                return PodDeleted(self._namespace, name)

    def _take_next(self, pool: InferencePool, delta: Delta[Pod]) -> list[Effect]:
        """Take the first list of the pods of *pool*, with which it takes effect."""
        # Nothing but a list comes first.
        assert isinstance(delta, Listed)  # noqa: S101 - it tells the type checker
        assert self._next is not None  # noqa: S101 - it is *pool*'s
        is_new = self._pool is None
        self._pool, self._pods, self._next = pool, self._next[1], None
        rules = self._rules.effects if is_new and self._rules is not None else []
        return [PoolChanged(pool, delta.objects), *rules]

    def _take_pool(self, delta: Delta[InferencePool]) -> list[Effect]:
        match delta:
            case Listed((pool, *_)) | Upserted(pool):
                self._search = None
                if pool.metadata.deletion_timestamp is None:
                    return self._set_pool(pool)
            case Listed((), (_, *_)) | Unreadable():
                self._search = None
                return []
            case _:
                self._look_for_others()
        return self._drop_pool()

    def _look_for_others(self) -> None:
        if self._search is None and self._named is not None:
            self._search = PoolSearch(self._named, self._options, self._rng)
            self._found = ""

    def _set_pool(self, pool: InferencePool) -> list[Effect]:
        if self._pool is not None and pool.selector == self._pool.selector:
            self._next = None
            if _spec(pool) == _spec(self._pool):
                # Its status changes often, and means nothing here.
                return []
            self._pool = pool
            return [PoolChanged(pool)]
        if self._next is not None and pool.selector == self._next[0].selector:
            self._next = (pool, self._next[1])
        else:
            self._next = (pool, self._follow_pods(pool))
        return []

    def _drop_pool(self) -> list[Effect]:
        known, self._pool, self._pods, self._next = self._pool is not None, None, None, None
        if not known:
            return []
        return [PoolChanged(None, ()), ObjectivesChanged(()), RewritesChanged(())]


def _spec(pool: InferencePool) -> tuple[object, ...]:
    return pool.selector, pool.target_ports, pool.app_protocol, pool.endpoint_picker_ref
