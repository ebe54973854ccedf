"""Servers that fall ill in a simulation: what becomes of their requests, and of the picker's view of them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError
from inferencepool.lab.simulation import (
    Arrival,
    EngineOptions,
    EngineRequest,
    FaultChanges,
    Prompt,
    SimulatedEngine,
    SimulationOptions,
    SimulationResult,
    simulate,
)
from inferencepool.plugins import default_profile
from inferencepool.registry import OutlierDetection, Staleness

ARRIVALS = [Arrival(at=number / 50, prompt=Prompt(str(number), 64), output_tokens=8) for number in range(1000)]


def play(*faults: tuple[float, str], arrivals: list[Arrival] = ARRIVALS, **options: Any) -> SimulationResult:
    """Simulate four endpoints of which the first one falls ill."""
    changes = [FaultChanges(at, 0, fault) for at, fault in faults]
    given = {"endpoints": 4, "staleness": Staleness(), "changes": changes, **options}
    return simulate(arrivals, default_profile, SimulationOptions(**given))


@pytest.mark.parametrize("fault", ["dead", "500", "429", "404"])
def test_a_server_that_fails_at_once(fault: str) -> None:
    """It draws requests without detection; with it a few fail, and with retries none that had not begun."""
    without = play((5.0, fault), outlier_detection=None, staleness=None)
    ours = play((5.0, fault))
    retried = play((5.0, fault), retries=2)

    assert sum(without.failed.values()) > 4 * sum(ours.failed.values())
    assert set(retried.failed) <= {"reset"}
    assert len(ARRIVALS) == ours.completed + sum(ours.failed.values())


@pytest.mark.parametrize("fault", ["frozen", "stuck"])
def test_a_server_that_holds_requests(fault: str) -> None:
    """What it has waits until it is well again, or until clients give up."""
    patient = play((5.0, fault), (9.0, "none"))
    assert len(ARRIVALS) == patient.completed
    assert 3 < patient.end_to_end.percentile(100)

    hasty = play((5.0, fault), (9.0, "none"), timeout=1.0)
    assert {"timeout"} == set(hasty.failed)
    assert len(ARRIVALS) == hasty.completed + hasty.failed["timeout"]


def test_a_server_that_never_is_well_again() -> None:
    """The simulation ends, and what the server has failed."""
    result = play((5.0, "frozen"))
    assert len(ARRIVALS) == result.completed + result.failed["timeout"]


def test_whoever_is_sent_again_waits_no_longer_than_others() -> None:
    """The client gives up when it would have, and not after those that came between its first try and its second."""
    ends: list[float] = []
    times = (0.0, 0.1, 1.9, 2.1, 5.2, 9.0)
    arrivals = [Arrival(at=at, prompt=Prompt(str(at), 64), output_tokens=8, then=ends.append) for at in times]
    changes = [FaultChanges(0.0, 0, "stuck"), FaultChanges(0.0, 1, "stuck"), FaultChanges(2.0, 0, "dead")]
    play(arrivals=arrivals, endpoints=2, changes=changes, timeout=5.0, retries=1, outlier_detection=None)

    assert 2 == ends.count(5.2)


def test_it_comes_back() -> None:
    """A server that is well again gets requests, and one that was dead begins with an empty cache."""
    ill, well = play((2.0, "dead")), play((2.0, "dead"), (6.0, "none"))
    assert ill.endpoints[0].picks * 2 < well.endpoints[0].picks


def test_the_same_again() -> None:
    """The same arguments give the same result."""
    assert play((5.0, "dead"), (9.0, "none"), retries=1) == play((5.0, "dead"), (9.0, "none"), retries=1)


def test_clients_that_wait_for_an_answer_go_on() -> None:
    """Whoever sends the next request behind the last one sends it behind a failure, too."""
    count = 0

    def then(at: float) -> Arrival | None:
        nonlocal count
        count += 1
        following = Arrival(at=at + 0.1, prompt=Prompt(str(count), 64), output_tokens=8, then=then)
        return following if count < 50 else None

    first = Arrival(at=0.0, prompt=Prompt(str(0), 64), output_tokens=8, then=then)
    result = play((0.0, "500"), arrivals=[first], outlier_detection=None)

    assert 50 == result.requests
    assert result.failed


@given(st.floats(0.001, 2), st.floats(0, 5))
def test_a_frozen_engine_goes_on_where_it_was(at: float, length: float) -> None:
    """A request takes as much longer as the engine was frozen while it had it."""

    def finish(*, frozen: bool) -> float:
        engine = SimulatedEngine(EngineOptions())
        engine.submit(EngineRequest(Prompt(str(1), 500), 200), 0.0)
        ended: list[EngineRequest] = []
        while not ended:
            if frozen and engine.next_at > at:
                engine.freeze(at)
                engine.thaw(at + length)
                frozen = False
            ended = engine.advance()
        return ended[0].finished_at

    assert finish(frozen=True) == pytest.approx(finish(frozen=False) + length)


@pytest.mark.parametrize("fault", ["", "ill", "200", "5000", 500])
def test_no_fault(fault: Any) -> None:
    """What is no fault is refused with what is allowed."""
    with pytest.raises(
        ConfigurationError, match=r"fault: fault: .* is not one of none, dead, frozen, stuck, or a status"
    ):
        FaultChanges(1.0, 0, fault)


def test_rules_are_those_of_the_option() -> None:
    """The rules of detection are those that the options say."""
    hardly = attrs.evolve(OutlierDetection(), consecutive_5xx=50)
    assert sum(play((5.0, "500")).failed.values()) < sum(play((5.0, "500"), outlier_detection=hardly).failed.values())
