"""What was seen with servers of others, in the simulator: ``python -m benchmarks.live.others``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from statistics import fmean

from inferencepool.lab.simulation import Arrival, EngineOptions, Prompt, SimulationOptions, parse_profile, simulate

__all__ = ["CASES", "hit_rates"]

_ENGINE = EngineOptions(
    prefill_tokens_per_second=10_000, decode_tokens_per_second=200, max_running_requests=8, kv_blocks=2048
)
_PROFILES = {"ours": "default", "in turn": "round-robin"}
_SEEDS = 7
# A second; about what four clients send that wait for each answer.
_RATE = 20.0
# Their own tokens, and the number of requests, are not known; these agree with both rates that were seen.
_PREFIXES, _PREFIX_TOKENS, _OWN_TOKENS, _REQUESTS = 20, 1500, 200, 240
# Of the chats only their number and the most that is possible are known, which a short answer to a long message gives.
_CHATS, _TURNS, _MESSAGE_TOKENS, _ANSWER_TOKENS = 50, 5, 184, 16


def _shared(seed: int) -> Iterator[Arrival]:
    rng, at = Random(seed), 0.0
    prefixes = [Prompt(f"prefix-{number}", _PREFIX_TOKENS) for number in range(_PREFIXES)]
    for number in range(_REQUESTS):
        at += rng.expovariate(_RATE)
        yield Arrival(at, Prompt(f"own-{number}", _OWN_TOKENS, rng.choice(prefixes)), 32)


def _chats(seed: int) -> Iterator[Arrival]:
    rng, at = Random(seed), 0.0
    turns = [chat for chat in range(_CHATS) for _ in range(_TURNS)]
    rng.shuffle(turns)
    so_far: dict[int, Prompt] = {}
    for number, chat in enumerate(turns):
        at += rng.expovariate(_RATE)
        prompt = Prompt(f"chat-{chat}-{number}", _MESSAGE_TOKENS, so_far.get(chat))
        so_far[chat] = Prompt(f"answer-{number}", _ANSWER_TOKENS, prompt)
        yield Arrival(at, prompt, _ANSWER_TOKENS, session=f"chat-{chat}", answer=so_far[chat])


CASES: Mapping[str, tuple[Callable[[int], Iterator[Arrival]], Mapping[str, str]]] = {
    "20 shared prefixes": (_shared, {"ours": "0.80 to 0.81", "in turn": "0.59"}),
    "50 chats of 5 turns": (_chats, {"ours": "0.661", "in turn": "0.316"}),
}
"""What was played: how to make it by seed, and the hit rates that were seen with each policy."""


def hit_rates(name: str, policy: str, seeds: int = _SEEDS) -> Sequence[float]:
    """Give the share of the blocks of prompts that were in caches, for each seed."""
    make, _ = CASES[name]
    profile, options = parse_profile(_PROFILES[policy]), SimulationOptions(endpoints=4, engine=_ENGINE)
    return [simulate(make(seed), profile, options, seed=seed).hit_rate for seed in range(seeds)]


def main() -> int:
    """Print the table."""
    print("| workload | policy | seen | simulated | least | most |", "| --- | --- | --: | --: | --: | --: |", sep="\n")
    for name, (_, seen) in CASES.items():
        for policy in _PROFILES:
            rates = hit_rates(name, policy)
            cells = [name, policy, seen[policy], *(f"{rate:.3f}" for rate in (fmean(rates), min(rates), max(rates)))]
            print(f"| {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
