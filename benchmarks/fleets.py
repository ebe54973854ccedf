"""Fleets to measure on."""

from __future__ import annotations

from collections.abc import Sized
from random import Random

from inferencepool import EndpointMetrics, EndpointRegistry, InferencePool, Pod
from inferencepool.plugins import KvCacheUtilizationScorer, LoraAffinityScorer, QueueScorer
from inferencepool.registry import OutlierDetection
from inferencepool.scheduling import SchedulingProfile, WeightedScorer

__all__ = [
    "ADAPTERS",
    "endpoint_ids",
    "make_registry",
    "profile_by_load",
    "profile_with_lora",
    "profile_without_ranking",
    "random_metrics",
]

_BY_DEFAULT = OutlierDetection()
ADAPTERS = ("chat", "sql", "law", "unknown")


def random_metrics(rng: Random) -> EndpointMetrics:
    """Random load; a third of the fleet knows LoRA adapters."""
    if rng.random() >= 1 / 3:
        return EndpointMetrics(
            waiting_queue_size=rng.randrange(40), running_requests=rng.randrange(40), kv_cache_usage=rng.random()
        )
    return EndpointMetrics(
        waiting_queue_size=rng.randrange(40),
        running_requests=rng.randrange(40),
        kv_cache_usage=rng.random(),
        active_models=frozenset(rng.sample(ADAPTERS[:3], rng.randrange(3))),
        waiting_models=frozenset(rng.sample(ADAPTERS[:3], rng.randrange(2))),
        max_active_models=4,
    )


def make_registry(
    size: int,
    *,
    publish_interval: float = 0.05,
    idle: int = 0,
    outlier_detection: OutlierDetection | None = _BY_DEFAULT,
) -> EndpointRegistry:
    """Fill a registry with *size* endpoints, one to a pod, and their load; the first *idle* of them have none."""
    rng = Random(size)
    pool = InferencePool(name="pool", selector={"app": "llama"}, target_ports=[8000])
    registry = EndpointRegistry(pool, publish_interval=publish_interval, outlier_detection=outlier_detection)
    registry.resync(
        Pod(name=f"pod-{i}", ip=f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", labels={"app": "llama"}, ready=True)
        for i in range(size)
    )
    for index, endpoint_id in enumerate(endpoint_ids(size)):
        registry.observe_metrics(endpoint_id, random_metrics(rng) if index >= idle else EndpointMetrics())
    return registry


def endpoint_ids(size: int) -> list[str]:
    """Give the ids of the endpoints that `make_registry` makes."""
    return [f"default/pod-{i}-rank-0" for i in range(size)]


def profile_by_load() -> SchedulingProfile:
    """Give the default profile without its prefix scorer, for requests without a prompt."""
    return SchedulingProfile(scorers=[WeightedScorer(QueueScorer(), 2), WeightedScorer(KvCacheUtilizationScorer(), 2)])


def profile_with_lora() -> SchedulingProfile:
    """Give the profile by load with LoRA affinity beside it."""
    return SchedulingProfile(scorers=[*profile_by_load().scorers, WeightedScorer(LoraAffinityScorer(), 1)])


class _NoOpinion:
    """A plain scorer that gives everybody 0: it changes no score, and makes every pick a full scan."""

    def score(self, _request: object, candidates: Sized) -> list[float]:
        return [0.0] * len(candidates)


def profile_without_ranking() -> SchedulingProfile:
    """Give the profile by load in a form that cannot be ranked, so that every pick scans all endpoints."""
    return SchedulingProfile(scorers=[*profile_by_load().scorers, WeightedScorer(_NoOpinion(), 1)])
