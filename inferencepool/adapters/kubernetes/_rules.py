"""What an API server says about the requests of a pool: its objectives and its model rewrites."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Any, TypeVar, final

from inferencepool.adapters.kubernetes._effects import ObjectivesChanged, RewritesChanged, RuleEffect
from inferencepool.adapters.kubernetes._feed import Feed
from inferencepool.adapters.kubernetes._named_pool import NamedPool
from inferencepool.adapters.kubernetes._options import ReflectorOptions
from inferencepool.adapters.kubernetes._reflector import Reflector
from inferencepool.adapters.kubernetes._resources import OBJECTIVES, REWRITES, ApiResource
from inferencepool.adapters.kubernetes._rule_book import RuleBook, read_objective, read_rewrite
from inferencepool.adapters.kubernetes._served import Served, ServedResources
from inferencepool.model import InferenceModelRewrite, InferenceObjective, PoolReference

__all__ = ["Rules"]

_RuleT = TypeVar("_RuleT", bound=InferenceObjective | InferenceModelRewrite)


@final
class Rules:
    """Objectives and rewrites of a pool, each out of the API group that is preferred among those served."""

    def __init__(self, pool: NamedPool, options: ReflectorOptions, clock: Callable[[], float], rng: Random) -> None:
        """Begin with nothing known of the rules of *pool*."""
        reference = PoolReference(name=pool.name, group=pool.group)

        def follow(read: Callable[..., _RuleT]) -> Callable[[ApiResource], Reflector[_RuleT]]:
            return lambda resource: Reflector(
                resource,
                pool.namespace,
                partial(read, resource=resource),
                options=options,
                clock=clock,
                rng=rng,
            )

        self._served = ServedResources((*OBJECTIVES, *REWRITES), options=options, rng=rng)
        self._objectives = RuleBook(OBJECTIVES, reference, follow(read_objective))
        self._rewrites = RuleBook(REWRITES, reference, follow(read_rewrite))

    @property
    def feeds(self) -> tuple[Feed[Any], ...]:
        """What is to be driven at present."""
        reflectors = (self._objectives.reflector, self._rewrites.reflector)
        return (self._served, *(reflector for reflector in reflectors if reflector is not None))

    @property
    def settled(self) -> bool:
        """Whether it is known which rules there are, or that they must not be known."""
        if not self._served.synced:
            return self._served.refused
        return self._objectives.settled and self._rewrites.settled

    @property
    def effects(self) -> list[RuleEffect]:
        """All rules there are, by kind; a kind without any is left out."""
        effects: list[RuleEffect] = []
        if self._objectives.rules:
            effects.append(self._objectives_changed())
        if self._rewrites.rules:
            effects.append(self._rewrites_changed())
        return effects

    def take(self, feed: Feed[Any], deltas: Iterable[Any]) -> list[RuleEffect]:
        """Take what *feed* told, and give all rules of those kinds that it changes, once."""
        objectives = rewrites = False
        for delta in deltas:
            if isinstance(delta, Served):
                objectives |= self._objectives.choose(delta.resources)
                rewrites |= self._rewrites.choose(delta.resources)
            elif feed is self._objectives.reflector:
                objectives |= self._objectives.take(delta)
            elif feed is self._rewrites.reflector:
                rewrites |= self._rewrites.take(delta)
        effects: list[RuleEffect] = [self._objectives_changed()] if objectives else []
        return [*effects, self._rewrites_changed()] if rewrites else effects

    def _objectives_changed(self) -> ObjectivesChanged:
        return ObjectivesChanged(tuple(self._objectives.rules.values()))

    def _rewrites_changed(self) -> RewritesChanged:
        return RewritesChanged(tuple(self._rewrites.rules.values()))
