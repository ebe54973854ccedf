"""The live check plays a short while: real Envoy, `serve` as a process, simulated servers in real time."""

from __future__ import annotations

import pytest

from benchmarks.live.cases import CASES, POLICIES
from benchmarks.live.others import hit_rates
from benchmarks.live.runs import play_again, play_live, play_simulated
from tests.gateway.envoy import require_envoy

SECONDS = 3.0


def test_live_and_simulated_are_told_alike() -> None:
    """Every request is answered live; with the picks of live the simulated engines find the same in their caches."""
    require_envoy()
    case, policy = CASES["chats"], POLICIES["ours"]
    live = play_live("chats", case, policy, SECONDS, 1)
    simulated = play_simulated(case, policy, SECONDS, 1)
    again = play_again(case, policy, SECONDS, 1, live)

    requests = len(case.arrivals(SECONDS, 1))
    assert requests == len(live.picks)
    assert set(range(len(case.speeds))) >= set(live.picks)
    assert live.slow_share == again.slow_share
    assert {"late", "path", "server", "queue", "prefill"} == set(live.stages)
    # A prompt that comes while the one before it is on its way may meet it or not: that is left to the clock.
    assert 0.1 > abs(live.hit_rate - again.hit_rate)
    assert 0 < simulated.hit_rate < 1


def test_what_servers_of_others_showed() -> None:
    """Affinity finds far more than servers in turn, about as much more as was seen."""
    ours, in_turn = (hit_rates("20 shared prefixes", policy, 2) for policy in ("ours", "in turn"))
    assert all(0.77 < rate < 0.84 for rate in ours)
    assert all(0.55 < rate < 0.63 for rate in in_turn)


@pytest.mark.parametrize("name", CASES)
def test_every_case_can_be_played(name: str) -> None:
    """Each has requests, and its servers, live and simulated, have room for them."""
    case = CASES[name]
    arrivals = case.arrivals(SECONDS, 0)
    assert arrivals
    assert all(arrival.prompt.tokens + arrival.output_tokens <= case.engine.max_model_tokens for arrival in arrivals)
    assert len(case.speeds) == len(case.servers()) == case.simulation(POLICIES["ours"]).endpoints
    assert 0 < play_simulated(case, POLICIES["ours"], SECONDS, 0).first_token
