"""A trace in the manner of those that the Mooncake project published: long prompts, most of which go on from others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from random import Random

__all__ = ["mooncake_lines"]

_BLOCK = 512


def mooncake_lines(seed: int, rate: float = 6.0, seconds: float = 60.0) -> Iterator[str]:
    """
    Make the lines of a trace.

    Prompts have about 7,000 tokens and answers 180. Half of the requests continue one of the latest 200 conversations
    with 1,000 tokens more; the others begin one, with one of 20 common beginnings of 1,024 tokens and 6,000 tokens.
    """
    rng, ids, at = Random(seed), count(100), 0.0
    conversations: list[list[int]] = []
    while (at := at + rng.expovariate(rate)) < seconds:
        if conversations and rng.random() < 0.5:
            before, more = conversations.pop(rng.randrange(len(conversations))), 1000
        else:
            beginning = rng.randrange(20)
            before, more = [2 * beginning, 2 * beginning + 1], 6000
        blocks = before + [next(ids) for _ in range(1 + int(rng.expovariate(_BLOCK / more)))]
        conversations = [*conversations[-199:], blocks]
        row = {
            "timestamp": round(1000 * at),
            "input_length": _BLOCK * len(blocks),
            "output_length": 1 + int(rng.expovariate(1 / 180)),
            "hash_ids": blocks,
        }
        yield json.dumps(row)
