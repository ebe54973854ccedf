"""Runs of the workloads with all policies, in several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

import attrs

from benchmarks.routing.cases import CASES, Policy, policies_of
from benchmarks.study.runs import Outcome
from inferencepool.cli._collector import calm_collector
from inferencepool.lab.simulation import Arrival, SimulationResult, simulate

__all__ = ["play"]


def play(names: Sequence[str], seeds: int, policies: Mapping[str, Policy]) -> Iterator[tuple[str, Sequence[Outcome]]]:
    """
    Play the named workloads over so many seeds, and give what came of each as soon as it is there.

    Args:
        names: The workloads.
        seeds: How many.
        policies: What is compared; the usual ones if empty.
    """
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        running = {name: [pool.submit(_play_once, name, seed, policies) for seed in range(seeds)] for name in names}
        for name, futures in running.items():
            found = [future.result() for future in futures]
            yield name, [Outcome(name, policy, [each[policy] for each in found]) for policy in found[0]]


def _play_once(name: str, seed: int, policies: Mapping[str, Policy]) -> Mapping[str, SimulationResult]:
    """Play one workload with all policies."""
    case = CASES[name]
    with calm_collector():
        return {
            label: simulate(
                map(_with_session, case.arrivals(seed)),
                policy.profile,
                attrs.evolve(case.options, reserve=policy.reserve),
                name=label,
                seed=seed,
            )
            for label, policy in (policies or policies_of(case)).items()
        }


def _with_session(arrival: Arrival) -> Arrival:
    """Let requests without a session have what their prompt begins with as one, so that it can be hashed."""
    return arrival if arrival.session else attrs.evolve(arrival, session=arrival.prompt.lineage()[0].id)
