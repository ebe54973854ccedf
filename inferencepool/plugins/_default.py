"""The profile that is used when none is given."""

from __future__ import annotations

from inferencepool.plugins._prefix import PrefixCacheScorer
from inferencepool.plugins._prefix_producer import ApproxPrefixCacheProducer
from inferencepool.plugins._scorers import KvCacheUtilizationScorer, QueueScorer
from inferencepool.scheduling import MaxScorePicker, SchedulingProfile, WeightedScorer

__all__ = ["default_profile"]


def default_profile(fallbacks: int = 0, *, prefix_compatibility: bool = False) -> SchedulingProfile:
    """
    Build the profile that the reference uses when none is given; the highest score wins.

    Cached prefixes count with weight 3, short queues and free KV cache with weight 2 each. Every call gives a profile
    of its own, since pickers and producers hold state.

    Args:
        fallbacks: How many endpoints a pick names beside the one that gets the request, 0 or more.
        prefix_compatibility: Whether prompts are remembered as the reference does (see `ApproxPrefixCacheProducer`).

    Raises:
        ConfigurationError: *fallbacks* is below 0, or *prefix_compatibility* neither true nor false.
    """
    scorers = (
        WeightedScorer(QueueScorer(), 2),
        WeightedScorer(KvCacheUtilizationScorer(), 2),
        WeightedScorer(PrefixCacheScorer(ApproxPrefixCacheProducer(compatibility=prefix_compatibility)), 3),
    )
    return SchedulingProfile(scorers=scorers, picker=MaxScorePicker(), max_num_of_endpoints=1 + fallbacks)
