"""What is played: the workloads by name, each with its fleet, and the policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import attrs

from benchmarks.routing.clients import agents, lora_clients
from benchmarks.routing.mooncake import mooncake_lines
from inferencepool.lab.simulation import (
    Arrival,
    EngineOptions,
    ProfileFactory,
    SimulationOptions,
    SpeedChanges,
    parse_profile,
    parse_workload,
    read_trace,
)

__all__ = ["CASES", "LORA_OURS", "OURS", "POLICIES", "REFERENCE", "Case", "Policy"]

OURS, REFERENCE = "ours", "reference"
LORA_OURS = "ours for LoRA"


@attrs.frozen
class Case:
    """
    A workload and the fleet that serves it.

    Attributes:
        title: What it is.
        arrivals: Makes the requests, by seed.
        options: The fleet.
        profiles: Policies that are compared beside the usual ones.
        ours: The policy that the others are compared with.
    """

    title: str
    arrivals: Callable[[int], Iterable[Arrival]]
    options: SimulationOptions = attrs.field(factory=SimulationOptions)
    ours: str = OURS

    def with_speeds(self, title: str, *speeds: float) -> Case:
        """Give the same on servers of other *speeds*, the first ones; the rest keep theirs."""
        changes = [SpeedChanges(0.0, number, speed) for number, speed in enumerate(speeds)]
        return attrs.evolve(self, title=f"{self.title}, {title}", options=attrs.evolve(self.options, changes=changes))


@attrs.frozen
class Policy:
    """A way to pick: what makes its profile, and whether picks count as load at once."""

    profile: ProfileFactory
    reserve: bool = True


_LOAD = "2*queue-scorer + 2*kv-cache-utilization-scorer"
_DEFAULT = f"{_LOAD} + 3*prefix-cache-scorer"
_CHAINED = "approx-prefix-cache-producer(compatibility=true)"


def _policy(text: str, reserve: bool = True) -> Policy:
    return Policy(parse_profile(text), reserve)


POLICIES: Mapping[str, Policy] = {
    OURS: _policy("default"),
    "ours, no reservation": _policy("default", reserve=False),
    REFERENCE: _policy(f"{_CHAINED} + {_DEFAULT}", reserve=False),
    "bounded affinity": _policy("bounded-affinity"),
    "random": _policy("random"),
    "in turn": _policy("round-robin"),
    "least requests": _policy("least-request"),
    "power of two": _policy("power-of-two-choices"),
    "consistent hash": _policy("session-hash"),
}
"""The policies by name."""

LORA_POLICIES: Mapping[str, Policy] = {
    LORA_OURS: _policy(f"{_DEFAULT} + 4*lora-affinity-scorer"),
    "reference with LoRA": _policy(f"{_CHAINED} + {_DEFAULT} + lora-affinity-scorer(idleAdapters=false)", False),
}


def _of(title: str, workload: str, rate: float, seconds: float) -> Case:
    def arrivals(seed: int) -> Iterable[Arrival]:
        return parse_workload(workload).arrivals(rate=rate, duration=seconds, seed=seed)

    return Case(f"{title}: `{workload}`, {rate:g} a second for {seconds:g} s", arrivals)


def _trace(seed: int) -> Iterable[Arrival]:
    return read_trace(mooncake_lines(seed))


_CHATS = "chats(turns=4, pause_seconds=1.5, groups=12, prefix_tokens=750, message_tokens=70, output_tokens=37)"
_SLOW = ("two of eight servers at half speed", 0.5, 0.5)
_MIXED = ("servers of eight speeds", 0.4, 0.6, 0.8, 1.0, 1.0, 1.2, 1.5, 2.0)
_chats = _of("Chats", _CHATS, 16, 40)
_busy = _of("Busy chats", "chats", 56, 40)
_documents = _of("Shared documents", "long-documents", 12, 60)
_bursts = _of("Bursts", "bursts(burst_requests=600)", 40, 30)
_alone = _of("No sharing", "shared-prompts(groups=1, prefix_tokens=1, prompt_tokens=1024)", 56, 30)
_LORA = SimulationOptions(endpoints=4, engine=EngineOptions(max_adapters=1))

CASES: Mapping[str, Case] = {
    "chats": _chats,
    "chats-uneven": _chats.with_speeds(*_SLOW),
    "chats-busy": _busy,
    "chats-mixed": _busy.with_speeds(*_MIXED),
    "agents": Case("240 agents with calls of tools", agents),
    "documents": _documents,
    "documents-uneven": _documents.with_speeds(*_SLOW),
    "shared": _of("Shared prompts", "zipf-prompts", 64, 30),
    "bursts": _bursts,
    "bursts-uneven": _bursts.with_speeds(*_SLOW),
    "alone": _alone,
    "alone-uneven": _alone.with_speeds(*_SLOW),
    "mooncake": Case("A trace in Mooncake's manner", _trace),
    "lora-mix": attrs.evolve(_of("LoRA adapters", "lora-mix", 32, 40), ours=LORA_OURS),
    "lora-8": Case("LoRA, room for one of 4, 8 clients", partial(lora_clients, clients=8), _LORA, LORA_OURS),
    "lora-16": Case("LoRA, room for one of 4, 16 clients", partial(lora_clients, clients=16), _LORA, LORA_OURS),
}
"""The workloads by name."""


def policies_of(case: Case) -> Mapping[str, Policy]:
    """Give the policies that are compared on *case*, what is compared with first."""
    return POLICIES if case.ours == OURS else {**LORA_POLICIES, **POLICIES}
