"""A workload of conversations."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import ClassVar

import attrs

from inferencepool._checks import checked_number, checked_whole_number
from inferencepool.lab.simulation._arrival import Arrival
from inferencepool.lab.simulation._draws import MOST_MEAN, length, poisson_times
from inferencepool.lab.simulation._prompt import Prompt

__all__ = ["Chats"]

_OWNER = "chats"


@attrs.frozen(kw_only=True)
class Chats:
    """
    Conversations of several turns: each prompt is all that was said so far, answers included, and a new message.

    The turns come at set times, whether or not the answer to the turn before was there. Conversations that began
    before the simulation did are continued, so that the rate is even from the beginning.

    Attributes:
        turns: Mean number of turns. At least 1.
        pause_seconds: Mean time from one turn to the next, which is half of this to one and a half of it. Above 0.
        groups: System prompts, of which each conversation has one. At least 1.
        prefix_tokens: Length of each system prompt. At least 1.
        message_tokens: Mean length of a message. At least 1.
        output_tokens: Mean length of an answer. At least 1.
    """

    rate_per_endpoint: ClassVar[float] = 5.0

    turns: float = attrs.field(default=6, validator=checked_number(_OWNER, 1, 1000))
    pause_seconds: float = attrs.field(default=15, validator=checked_number(_OWNER, above=True))
    groups: int = attrs.field(default=4, validator=checked_whole_number(_OWNER, 1))
    prefix_tokens: int = attrs.field(default=512, validator=checked_whole_number(_OWNER, 1, MOST_MEAN))
    message_tokens: int = attrs.field(default=96, validator=checked_whole_number(_OWNER, 1, MOST_MEAN))
    output_tokens: int = attrs.field(default=192, validator=checked_whole_number(_OWNER, 1, MOST_MEAN))

    def arrivals(self, *, rate: float, duration: float, seed: int) -> Iterator[Arrival]:
        """Make requests (see `Workload`)."""
        rng = Random(seed)
        prefixes = [Prompt(f"system-{index}", self.prefix_tokens) for index in range(self.groups)]
        before = 4 * self.turns * self.pause_seconds
        starts = poisson_times(rng, rate / self.turns, -before, duration)
        chats = (self._chat(rng, rng.choice(prefixes), number, start) for number, start in enumerate(starts))
        turns = [turn for chat in chats for turn in chat if turn.at < duration]
        turns.sort(key=lambda turn: turn.at)
        return iter(turns)

    def _chat(self, rng: Random, so_far: Prompt, chat: int, at: float) -> Iterator[Arrival]:
        """Make the turns of conversation number *chat*, which begins *at* that time, from time 0 on."""
        for turn in range(length(rng, self.turns)):
            prompt = Prompt(f"chat-{chat}-turn-{turn}", length(rng, self.message_tokens), so_far)
            output_tokens = length(rng, self.output_tokens)
            so_far = Prompt(f"answer-{turn}", output_tokens, prompt)
            if at >= 0:
                yield Arrival(at, prompt, output_tokens, session=f"chat-{chat}", answer=so_far)
            at += self.pause_seconds * (0.5 + rng.random())
