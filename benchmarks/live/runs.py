"""One run, live or in the simulator, told in the same terms."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean

import attrs

from benchmarks.live.cases import Case, Policy
from benchmarks.live.client import Answered, play
from benchmarks.live.picker import read_notes
from benchmarks.live.rig import start_rig
from inferencepool.cli._collector import calm_collector
from inferencepool.lab.simulation import Distribution, simulate
from inferencepool.lab.simulation._results import spread
from inferencepool.model import Candidates, InferenceRequest
from inferencepool.scheduling import SchedulingProfile

__all__ = ["Outcome", "play_again", "play_live", "play_simulated"]

_Numbers = Mapping[str, float]


@attrs.frozen(kw_only=True)
class Outcome:
    """
    What came of one run. Times are in seconds.

    Attributes:
        hit_rate: Share of the blocks of prompts that were in caches, 0 to 1.
        first_token: Mean time to the first token; live, with the path.
        p99: Its 99th percentile.
        load_spread: Standard deviation by mean of the mean loads of the servers.
        slow_share: Share of the requests that went to servers slower than the fastest.
        stages: Means of what a live request took: on its way, and in the server's stages.
        processors: Live, the share of a processor that each process used.
        picks: Live, the number of the server of each request.
        known: Means of what each live pick took and knew, see `read_notes`.
    """

    hit_rate: float
    first_token: float
    p99: float
    load_spread: float
    slow_share: float
    stages: _Numbers = attrs.field(factory=dict)
    processors: _Numbers = attrs.field(factory=dict)
    picks: Sequence[int] = ()
    known: _Numbers = attrs.field(factory=dict)

    @property
    def path(self) -> float:
        """What a live request took beside the engine's time, on average."""
        return self.stages.get("path", 0.0) + self.stages.get("server", 0.0)


def play_simulated(case: Case, policy: Policy, seconds: float, seed: int) -> Outcome:
    """Play *case* in the simulator."""
    result = simulate(case.arrivals(seconds, seed), policy.profile, case.simulation(policy), seed=seed)
    fastest = max(case.speeds)
    slow = sum(each.picks for each, speed in zip(result.endpoints, case.speeds, strict=True) if speed < fastest)
    return Outcome(
        hit_rate=result.hit_rate,
        first_token=result.time_to_first_token.mean,
        p99=result.time_to_first_token.percentile(99),
        load_spread=result.load_spread,
        slow_share=slow / max(1, result.completed),
    )


@attrs.frozen
class _Again:
    """Prefers the server that *picks* has for a request, whose id is its number."""

    picks: Sequence[int]

    def score(self, request: InferenceRequest, candidates: Candidates, /) -> Sequence[float]:
        name = f"server-{self.picks[int(request.id) - 1]}"
        return [float(candidate.endpoint.pod_name == name) for candidate in candidates]


def play_again(case: Case, policy: Policy, seconds: float, seed: int, live: Outcome) -> Outcome:
    """Play *case* in the simulator with each request at the server that it had live: then only the engines differ."""
    made = partial(SchedulingProfile, scorers=[_Again(live.picks)])
    return play_simulated(case, attrs.evolve(policy, profile=made, reserve=False), seconds, seed)


def play_live(name: str, case: Case, policy: Policy, seconds: float, seed: int) -> Outcome:
    """Play *case*, which has this *name*, live."""
    return asyncio.run(_play_live(name, case, policy, seconds, seed))


async def _play_live(name: str, case: Case, policy: Policy, seconds: float, seed: int) -> Outcome:
    arrivals = case.arrivals(seconds, seed)
    async with start_rig(name, [*policy.flags, f"--seed={seed}"]) as rig:
        before = rig.processor_seconds()
        began = asyncio.get_running_loop().time()
        with calm_collector():
            answered = await play(rig, arrivals)
        took = asyncio.get_running_loop().time() - began
        # Those before are of the client's warm-up.
        notes = read_notes(rig.notes)[-len(arrivals) :]
        processors = {name: (after - before[name]) / took for name, after in rig.processor_seconds().items()}
    known = {key: fmean(note[key] for note in notes) for key in notes[0]}
    return attrs.evolve(_outcome(case, answered), processors=processors, known=known)


def _outcome(case: Case, answered: Sequence[Answered]) -> Outcome:
    size, fastest = case.engine.kv_block_size, max(case.speeds)
    loads = [sum(each.end for each in answered if each.server == number) for number in range(len(case.speeds))]
    first_token = Distribution.of(each.first_token for each in answered)
    return Outcome(
        hit_rate=sum(each.cached_tokens // size for each in answered)
        / sum(each.prompt_tokens // size for each in answered),
        first_token=first_token.mean,
        p99=first_token.percentile(99),
        load_spread=spread(loads),
        slow_share=fmean(case.speeds[each.server] < fastest for each in answered),
        stages={
            "late": fmean(each.late for each in answered),
            "path": fmean(each.first_token - each.served for each in answered),
            "server": fmean(each.served - each.queue - each.prefill for each in answered),
            "queue": fmean(each.queue for each in answered),
            "prefill": fmean(each.prefill for each in answered),
        },
        picks=[each.server for each in answered],
    )
