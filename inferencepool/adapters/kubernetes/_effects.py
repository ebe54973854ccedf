"""What follows from news of an API server."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from inferencepool.adapters.kubernetes._pool_search import PoolMissing
from inferencepool.model import InferenceModelRewrite, InferenceObjective
from inferencepool.registry import Change

__all__ = ["Effect", "ObjectivesChanged", "RewritesChanged", "RuleEffect"]


@attrs.frozen
class ObjectivesChanged:
    """These objectives, and no others, are those of the pool."""

    objectives: tuple[InferenceObjective, ...]


@attrs.frozen
class RewritesChanged:
    """These rewrites, and no others, are those of the pool."""

    rewrites: tuple[InferenceModelRewrite, ...]


RuleEffect: TypeAlias = ObjectivesChanged | RewritesChanged
Effect: TypeAlias = Change | RuleEffect | PoolMissing
