"""The profile that is used when none is given."""

from __future__ import annotations

from inferencepool.plugins._scorers import KvCacheUtilizationScorer, QueueScorer
from inferencepool.scheduling import MaxScorePicker, SchedulingProfile, WeightedScorer

__all__ = ["default_profile"]


def default_profile() -> SchedulingProfile:
    """
    Build a profile that prefers short queues and free KV cache, both with weight 2; the highest score wins.

    Every call gives a profile of its own, since pickers hold state.
    """
    scorers = (WeightedScorer(QueueScorer(), 2), WeightedScorer(KvCacheUtilizationScorer(), 2))
    return SchedulingProfile(scorers=scorers, picker=MaxScorePicker())
