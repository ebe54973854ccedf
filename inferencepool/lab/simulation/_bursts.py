"""A workload with bursts."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from random import Random
from typing import ClassVar

import attrs

from inferencepool._checks import checked_flag, checked_number, checked_whole_number, refusal
from inferencepool.lab.simulation._arrival import Arrival
from inferencepool.lab.simulation._draws import MOST_MEAN, length, poisson_times
from inferencepool.lab.simulation._prompt import Prompt

__all__ = ["Bursts"]

_OWNER = "bursts"


@attrs.frozen(kw_only=True)
class Bursts:
    """
    Bursts on top of an even flow of requests, each of which is one of some system prompts and a prompt of its own.

    The rate is that of the even flow; bursts come on top. The first comes after half of *every_seconds*.

    Attributes:
        burst_requests: Requests in a burst. At least 1.
        burst_seconds: How long a burst takes; its requests come evenly. Above 0, at most *every_seconds*.
        every_seconds: Time from one burst to the next. Above 0.
        same_prompt: Whether all requests of a burst have one prompt, a new one for each burst; otherwise each has its
            own.
        burst_tokens: Length of the prompts of bursts. At least 1.
        groups: System prompts of the even flow, all equally common; 0 for none.
        prefix_tokens: Length of each of them. At least 1.
        prompt_tokens: Mean length of what follows. At least 1.
        output_tokens: Mean length of an answer, in bursts as well. At least 1.
    """

    rate_per_endpoint: ClassVar[float] = 5.0

    burst_requests: int = attrs.field(default=200, validator=checked_whole_number(_OWNER, 1))
    burst_seconds: float = attrs.field(default=1.0, validator=checked_number(_OWNER, above=True))
    every_seconds: float = attrs.field(default=20.0, validator=checked_number(_OWNER, above=True))
    same_prompt: bool = attrs.field(default=True, validator=checked_flag(_OWNER))
    burst_tokens: int = attrs.field(default=2048, validator=checked_whole_number(_OWNER, 1, MOST_MEAN))
    groups: int = attrs.field(default=512, validator=checked_whole_number(_OWNER, 0))
    prefix_tokens: int = attrs.field(default=1024, validator=checked_whole_number(_OWNER, 1, MOST_MEAN))
    prompt_tokens: int = attrs.field(default=256, validator=checked_whole_number(_OWNER, 1, MOST_MEAN))
    output_tokens: int = attrs.field(default=128, validator=checked_whole_number(_OWNER, 1, MOST_MEAN))

    def __attrs_post_init__(self) -> None:
        if self.burst_seconds > self.every_seconds:
            raise refusal(
                _OWNER, "burst_seconds", self.burst_seconds, f"is not every_seconds, {self.every_seconds}, or less"
            )

    def arrivals(self, *, rate: float, duration: float, seed: int) -> Iterator[Arrival]:
        """Make requests (see `Workload`)."""
        rng = Random(seed)
        prefixes: list[Prompt | None] = [Prompt(f"system-{i}", self.prefix_tokens) for i in range(self.groups)]
        flow = [
            Arrival(
                at,
                Prompt(f"prompt-{index}", length(rng, self.prompt_tokens), rng.choice(prefixes or [None])),
                length(rng, self.output_tokens),
            )
            for index, at in enumerate(poisson_times(rng, rate, 0, duration))
        ]
        return merge(flow, self._bursts(rng, duration), key=lambda arrival: arrival.at)

    def _bursts(self, rng: Random, duration: float) -> Iterator[Arrival]:
        burst, start = 0, self.every_seconds / 2
        while start < duration:
            prompt = Prompt(f"burst-{burst}", self.burst_tokens)
            for index in range(self.burst_requests):
                if not self.same_prompt:
                    prompt = Prompt(f"burst-{burst}-prompt-{index}", self.burst_tokens)
                at = start + index * self.burst_seconds / self.burst_requests
                if at < duration:
                    yield Arrival(at, prompt, length(rng, self.output_tokens))
            burst += 1
            start += self.every_seconds
