"""Endpoints that tie: each is as likely as the others, and drawing one costs no search for all of them."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from inferencepool.model import InferenceRequest, Snapshot
from inferencepool.plugins import default_profile
from inferencepool.scheduling import Scheduler
from inferencepool.testing import make_snapshot


def fleet_of(best: int, others: int) -> Snapshot:
    """A snapshot in which the first *best* endpoints tie, and the others have a queue."""
    loads: dict[str, dict[str, object]] = {f"best-{index}": {} for index in range(best)}
    return make_snapshot(loads | {f"other-{index}": {"waiting_queue_size": 9} for index in range(others)})


def slots_of(scheduler: Scheduler, snapshot: Snapshot, picks: int) -> list[int]:
    """Pick and release so many times."""
    slots = []
    for _ in range(picks):
        result = scheduler.schedule(InferenceRequest(), snapshot)
        slots.append(result.slot)
        result.release()
    return slots


@pytest.mark.parametrize(("best", "others"), [(2, 0), (7, 0), (7, 20), (2, 98)])
def test_each_is_as_likely_as_the_others(best: int, others: int) -> None:
    """Of many picks, each of the best gets its share, within five standard deviations, and no other gets any."""
    picks = 4000
    counts = Counter(slots_of(Scheduler(default_profile(), rng=Random(5)), fleet_of(best, others), picks))

    assert set(range(best)) == set(counts)
    share = picks / best
    assert all(abs(count - share) < 5 * share**0.5 for count in counts.values())


def test_those_that_hold_a_pick_are_left_out_fairly() -> None:
    """With picks held, draws go to the others only, each of them as likely."""
    snapshot, scheduler = fleet_of(10, 5), Scheduler(default_profile(), rng=Random(6))
    held = {scheduler.schedule(InferenceRequest(), snapshot).slot for _ in range(7)}
    assert 7 == len(held)

    counts = Counter(slots_of(scheduler, snapshot, 3000))

    assert set(range(10)) - held == set(counts)
    assert all(abs(count - 1000) < 160 for count in counts.values())


def test_nothing_is_kept_for_endpoints_without_picks() -> None:
    """What a pick needs memory for is gone with it, so that picks among many endpoints touch little of it."""
    snapshot, scheduler = fleet_of(50, 0), Scheduler(default_profile(), rng=Random(9))
    results = [scheduler.schedule(InferenceRequest(), snapshot) for _ in range(120)]
    reservations = scheduler._fleet.reservations
    assert 120 == sum(map(len, reservations._uncovered.values()))
    for number, result in enumerate(results, 1):
        result.release()
        assert 120 - number == sum(map(len, reservations._uncovered.values()))
        assert all(reservations._uncovered.values())

    assert {} == reservations._uncovered


def test_a_burst_goes_round() -> None:
    """As many held picks as there are endpoints that tie go to each of them once."""
    snapshot, scheduler = fleet_of(50, 0), Scheduler(default_profile(), rng=Random(7))
    assert set(range(50)) == {scheduler.schedule(InferenceRequest(), snapshot).slot for _ in range(50)}


def test_the_same_seed_picks_the_same() -> None:
    """Draws come from the generator that was given, and from nothing else."""
    first, second = (slots_of(Scheduler(default_profile(), rng=Random(8)), fleet_of(30, 9), 200) for _ in range(2))
    assert first == second


def test_a_tie_needs_no_sets_of_its_own() -> None:
    """However many tie, a draw makes none of the sets of leading ranks but the first, and asks few random numbers."""

    class Counting(Random):
        asked = 0

        def random(self) -> float:
            """Count."""
            self.asked += 1
            return super().random()

    rng = Counting(9)
    scheduler = Scheduler(default_profile(), rng=rng)

    slots_of(scheduler, fleet_of(1000, 0), 300)

    ranking = scheduler._fleet._ranking
    assert ranking is not None
    assert 1 == len(ranking._reach)
    assert 300 == rng.asked
