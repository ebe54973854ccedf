"""Clients that wait for an answer before they ask again: agents, and a fixed number of users of LoRA adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from random import Random

import attrs

from inferencepool.lab.simulation import Arrival, Prompt

__all__ = ["agents", "lora_clients"]


@attrs.frozen
class _Client:
    """
    One who asks again some time after the answer was complete.

    Attributes:
        name: Names its session.
        asks: What it asks, each with the seconds that pass before.
    """

    name: str
    asks: Sequence[tuple[float, Arrival]]

    def ask(self, index: int, after: float) -> Arrival | None:
        """Ask for the next thing, some time *after*; None at the end."""
        if index == len(self.asks):
            return None
        pause, ask = self.asks[index]
        return attrs.evolve(ask, at=after + pause, session=self.name, then=partial(self.ask, index + 1))


def _in_order(clients: Iterator[tuple[float, _Client]]) -> Iterator[Arrival]:
    first = (client.ask(0, at) for at, client in clients)
    return iter(sorted((arrival for arrival in first if arrival is not None), key=lambda arrival: arrival.at))


def _length(rng: Random, mean: float) -> int:
    return max(1, round(min(rng.expovariate(1 / mean), 8 * mean)))


def agents(seed: int, count: int = 240, seconds: float = 60.0) -> Iterator[Arrival]:
    """
    Let *count* agents begin within *seconds*.

    Each has one of six instructions of 3,000 tokens and makes about eight calls of tools, whose results of 400 tokens
    on average are added to the prompt. Most calls take about a second; one in ten waits for somebody, for about
    twenty seconds.
    """
    rng = Random(seed)
    instructions = [Prompt(f"instructions-{number}", 3000) for number in range(6)]

    def agent(number: int) -> _Client:
        so_far, asks = rng.choice(instructions), list[tuple[float, Arrival]]()
        for call in range(_length(rng, 8)):
            pause = rng.expovariate(1 / (20.0 if rng.random() < 0.1 else 1.0)) if call else 0.0
            prompt = Prompt(f"agent-{number}-call-{call}", _length(rng, 400), so_far)
            output_tokens = _length(rng, 60)
            so_far = Prompt("answer", output_tokens, prompt)
            asks.append((pause, Arrival(0.0, prompt, output_tokens, answer=so_far)))
        return _Client(f"agent-{number}", asks)

    return _in_order((seconds * rng.random(), agent(number)) for number in range(count))


def lora_clients(seed: int, clients: int, requests: int = 300, adapters: int = 4) -> Iterator[Arrival]:
    """
    Let *clients* make *requests* in all, each for an adapter drawn at random; no two prompts begin alike.

    Where they do, prefixes alone keep most adapters in their places.
    """
    rng = Random(seed)

    def ask(number: int) -> tuple[float, Arrival]:
        adapter = rng.randrange(adapters)
        prompt = Prompt(f"prompt-{number}", _length(rng, 384))
        return 0.0, Arrival(0.0, prompt, _length(rng, 48), adapter=f"adapter-{adapter}")

    asks = [ask(number) for number in range(requests)]
    return _in_order(
        (0.05 * rng.random(), _Client(f"client-{number}", asks[number::clients])) for number in range(clients)
    )
