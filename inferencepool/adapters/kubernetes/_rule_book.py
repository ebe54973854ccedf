"""The rules of one kind that a pool has: its objectives, or its model rewrites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, final

from inferencepool.adapters.kubernetes._deltas import Deleted, Delta, Listed, Unreadable, Upserted
from inferencepool.adapters.kubernetes._reflector import Reflector
from inferencepool.adapters.kubernetes._resources import ApiResource
from inferencepool.model import InferenceModelRewrite, InferenceObjective, PoolReference
from inferencepool.selection import ModelRewrites

__all__ = ["RuleBook", "read_objective", "read_rewrite", "typed"]

_RuleT = TypeVar("_RuleT", bound=InferenceObjective | InferenceModelRewrite)


def typed(document: Mapping[str, Any], resource: ApiResource) -> Mapping[str, Any]:
    """Say what a document is, which objects in lists need not."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, **document}


def read_objective(document: Mapping[str, Any], resource: ApiResource) -> InferenceObjective:
    """Read an objective; raises `InvalidDocumentError`."""
    return InferenceObjective.from_dict(typed(document, resource))


def read_rewrite(document: Mapping[str, Any], resource: ApiResource) -> InferenceModelRewrite:
    """Read a rewrite; raises `InvalidDocumentError`."""
    rewrite = InferenceModelRewrite.from_dict(typed(document, resource))
    # One that could not be used with others is noticed here, where it can be left out.
    ModelRewrites([rewrite])
    return rewrite


@final
class RuleBook(Generic[_RuleT]):
    """
    The rules of one kind that belong to one pool, out of that API group which is preferred among those served.

    While another group takes over, the rules of the former stay until those of the latter are known.

    Attributes:
        reflector: What follows them; None where no group is served.
        rules: The rules, by name.
    """

    def __init__(
        self,
        alternatives: tuple[ApiResource, ...],
        pool: PoolReference,
        follow: Callable[[ApiResource], Reflector[_RuleT]],
    ) -> None:
        """
        Begin with none.

        Args:
            alternatives: The same kind in several groups, the preferred one first.
            pool: What the rules must refer to.
            follow: Makes the reflector of one of *alternatives*.
        """
        self.reflector: Reflector[_RuleT] | None = None
        self.rules: dict[str, _RuleT] = {}
        self._alternatives = alternatives
        self._pool = pool
        self._follow = follow

    @property
    def settled(self) -> bool:
        """Whether it is known which rules there are, or that they must not be known."""
        reflector = self.reflector
        return reflector is None or reflector.synced or reflector.refused

    def choose(self, served: frozenset[ApiResource]) -> bool:
        """Hear which resources are *served*; whether that changed the rules."""
        chosen = next((resource for resource in self._alternatives if resource in served), None)
        if chosen == (self.reflector.resource if self.reflector is not None else None):
            return False
        self.reflector = self._follow(chosen) if chosen is not None else None
        return self.reflector is None and self._replace({})

    def take(self, delta: Delta[_RuleT]) -> bool:
        """Take what the reflector told, an event in O(1); whether that changed the rules."""
        match delta:
            case Listed(objects):
                return self._replace({rule.metadata.name: rule for rule in objects if rule.pool_ref == self._pool})
            case Upserted(rule) if rule.pool_ref == self._pool:
                before = self.rules.get(rule.metadata.name)
                self.rules[rule.metadata.name] = rule
                return before != rule
            case Upserted(rule):
                return self.rules.pop(rule.metadata.name, None) is not None
            case Deleted(name) | Unreadable(name):
                return self.rules.pop(name, None) is not None
        return False

    def _replace(self, rules: dict[str, _RuleT]) -> bool:
        changed = rules != self.rules
        self.rules = rules
        return changed
