"""What is played live: the workload, the servers and the policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from inferencepool.lab.model_servers import SimulatorOptions
from inferencepool.lab.simulation import (
    Arrival,
    EngineOptions,
    ProfileFactory,
    SimulationOptions,
    SpeedChanges,
    parse_profile,
    parse_workload,
)

__all__ = ["CASES", "MODEL", "POLICIES", "Case", "Policy"]

MODEL = "base"
"""The model that all requests ask for."""


@attrs.frozen
class Policy:
    """
    A way to pick, live and in the simulator.

    Attributes:
        flags: What ``inferencepool serve`` is told.
        profile: Makes the same profile for the simulator.
        reserve: Whether picks count as load at once.
    """

    flags: Sequence[str]
    profile: ProfileFactory
    reserve: bool


@attrs.frozen(kw_only=True)
class Case:
    """
    A workload and the servers for it.

    Attributes:
        workload: The workload, as `parse_workload` reads it.
        rate: Requests a second.
        speeds: The speed of each server, where 1 is what *engine* says.
        engine: What the engines are like.
    """

    workload: str
    rate: float
    speeds: Sequence[float]
    engine: EngineOptions = attrs.field(
        factory=lambda: EngineOptions(max_running_requests=16, prefill_tokens_per_second=8_000)
    )

    def arrivals(self, seconds: float, seed: int) -> list[Arrival]:
        """
        Make the requests.

        The servers of `inferencepool.lab.model_servers` keep prompts, and no answers, since what they write is not what
        the trace goes on with. So none of its prompts is told to begin with an answer.
        """
        made = parse_workload(self.workload).arrivals(rate=self.rate, duration=seconds, seed=seed)
        return [attrs.evolve(arrival, answer=None, model=MODEL) for arrival in made]

    def simulation(self, policy: Policy) -> SimulationOptions:
        """Give the fleet for the simulator."""
        changes = [SpeedChanges(0.0, number, speed) for number, speed in enumerate(self.speeds) if speed != 1]
        return SimulationOptions(
            endpoints=len(self.speeds), engine=self.engine, changes=changes, reserve=policy.reserve
        )

    def servers(self) -> list[SimulatorOptions]:
        """Give the servers to run live."""
        engine = self.engine
        return [
            SimulatorOptions(
                models=[MODEL],
                max_running_requests=engine.max_running_requests,
                max_step_tokens=engine.max_step_tokens,
                prefill_tokens_per_second=engine.prefill_tokens_per_second,
                decode_tokens_per_second=engine.decode_tokens_per_second,
                kv_blocks=engine.kv_blocks,
                kv_block_size=engine.kv_block_size,
                time_scale=speed,
            )
            for speed in self.speeds
        ]


_DEFAULT = "2*queue-scorer + 2*kv-cache-utilization-scorer + 3*prefix-cache-scorer"

POLICIES: Mapping[str, Policy] = {
    "ours": Policy([], parse_profile("default"), reserve=True),
    "no reservation": Policy(["--reserve=false"], parse_profile("default"), reserve=False),
    "reference": Policy(
        ["--reserve=false", "--prefix-compatibility"],
        parse_profile(f"approx-prefix-cache-producer(compatibility=true) + {_DEFAULT}"),
        reserve=False,
    ),
}
"""The policies by name: the one that others are compared with first."""

_CHATS = "chats(turns=4, pause_seconds=1.5, groups=12, prefix_tokens=750, message_tokens=70, output_tokens=37)"
_UNEVEN = (0.5, 0.5, 1, 1, 1, 1, 1, 1)

CASES: Mapping[str, Case] = {
    "chats": Case(
        workload=_CHATS,
        rate=16,
        speeds=_UNEVEN,
    ),
    "even": Case(
        workload=_CHATS,
        rate=16,
        speeds=(1,) * 8,
    ),
    "bursts": Case(
        workload="bursts(burst_requests=16, burst_seconds=0.1, every_seconds=2, burst_tokens=1024, groups=12, "
        "prefix_tokens=750, prompt_tokens=70, output_tokens=37)",
        rate=12,
        speeds=_UNEVEN,
    ),
    "documents": Case(
        workload="long-documents(documents=8, document_tokens=4096, prompt_tokens=64, output_tokens=40)",
        rate=8,
        speeds=(1,) * 4,
    ),
}
"""What can be played, by name."""
