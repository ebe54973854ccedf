"""Picks of long prompts whose beginning is cached: lookup, pick, insert and reservation through the public API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, cycle
from random import Random

from benchmarks.fleets import make_registry
from benchmarks.measure import Row, ratio_to_choice
from inferencepool import EndpointPicker, InferenceRequest
from inferencepool.plugins import (
    ApproxPrefixCacheProducer,
    default_profile,
)

__all__ = ["measure_prefixes"]

SIZES = (10, 1_000, 10_000)
_LIMITS = {10: 110, 1_000: 180, 10_000: 320}
_SYSTEM, _PROMPT = 2048, 8192

# Picks before the measurement: enough to fill the endpoints of the smallest fleet, so that they have to forget.
_WARM_UP = 25_000


def _picker(size: int, cached: int) -> Callable[[], None]:
    """
    Give a step that picks for a prompt of 8 KiB by the default profile, and releases the result.

    All endpoints hold the system prompt. Of each prompt *cached* bytes were part of an earlier one, so that some
    endpoint holds them; what follows is new. The time of putting the prompt together is part of the step.
    """
    rng = Random(size)
    profile = default_profile()
    pick = EndpointPicker(make_registry(size), profile=profile, rng=rng).pick
    (producer,) = (part for part in profile.parts_with("match") if isinstance(part, ApproxPrefixCacheProducer))
    system = rng.randbytes(_SYSTEM)
    for slot in range(size):
        producer.index.insert(producer.index.match(system, ("chat", "")), slot)
    earlier = cycle([system + rng.randbytes(cached - _SYSTEM) for _ in range(64)]).__next__
    number, repeats = count().__next__, (_PROMPT - cached) // 16

    def step() -> None:
        pick(InferenceRequest(model="chat", prompt=earlier() + b"%016d" % number() * repeats)).release()

    for _ in range(_WARM_UP):
        step()
    return step


def measure_prefixes() -> Iterator[Row]:
    """Measure lookup, pick, reservation and insertion together."""
    for what, cached in (("7 KiB of 8 cached", 7168), ("2 KiB of 8 cached", _SYSTEM)):
        for size in SIZES:
            step = _picker(size, cached)
            yield ratio_to_choice(f"pick with prefix, {what}, n={size}, released at once", step, _LIMITS[size])
