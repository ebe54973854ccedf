"""The comparison of policies: its workloads and its tables."""

from __future__ import annotations

import sys

import attrs
import pytest

from benchmarks.routing.__main__ import main
from benchmarks.routing.cases import CASES, POLICIES, policies_of
from benchmarks.routing.tables import table
from benchmarks.study.runs import Outcome
from inferencepool.lab.simulation import SharedPrompts, SimulationResult, simulate


@pytest.mark.parametrize("name", CASES)
def test_a_workload_is_the_same_for_the_same_seed(name: str) -> None:
    """Every policy and every run gets the same requests, in order."""
    case = CASES[name]
    first, again = (
        [(arrival.at, arrival.prompt.to_bytes(), arrival.output_tokens) for arrival in case.arrivals(3)]
        for _ in range(2)
    )

    assert first
    assert first == again
    assert sorted(at for at, *_ in first) == [at for at, *_ in first]
    assert case.ours in policies_of(case)


def test_clients_of_adapters_make_all_their_requests(capsys: pytest.CaptureFixture[str]) -> None:
    """They ask one after the other, as often in all as they should; the table tells how often adapters were loaded."""
    argv, sys.argv = sys.argv, ["routing", "lora-8", "--seeds", "2", "--policy", "random", "--policy", "mine=default"]
    try:
        assert 0 == main()
    finally:
        sys.argv = argv
    shown = capsys.readouterr().out

    assert "| adapters loaded |" in shown
    assert all(f"\n| {name} |" in shown for name in ("random", "mine"))
    assert 300 == simulate(CASES["lora-8"].arrivals(1), POLICIES["random"].profile, CASES["lora-8"].options).completed


def test_marks_where_ours_is_not_the_best() -> None:
    """A policy that is better in each seed is marked, one that is better in some only is not."""

    def outcome(policy: str, *hits: int) -> Outcome:
        return Outcome("w", policy, [attrs.evolve(result, hit_blocks=hit) for hit in hits])

    result: SimulationResult = simulate(
        SharedPrompts().arrivals(rate=5, duration=5, seed=1), POLICIES["random"].profile
    )
    result = attrs.evolve(result, prompt_blocks=1000)
    lines = list(table([outcome("ours", 500, 510), outcome("good", 600, 611), outcome("even", 400, 611)], "ours"))

    assert "| ours | 50.50 |" in lines[2]
    assert "| good | 60.55 (+10.05 ± 0.64) ! |" in lines[3]
    assert "| even | 50.55 (+0.05 ± 127.74)" in lines[4]
    assert "Better than ours, beyond noise: good in hit rate %." == lines[-1]
