"""Passive health: garbage, storms and threads; what it costs, and what it keeps."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from random import Random
from threading import Thread
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError, NoEndpointsError
from inferencepool.model import Outcome, OutcomeKind
from inferencepool.scheduling import PickResult
from tests.registry.ejecting import PLAIN, REQUEST, Fleet


class TestGarbage:
    @pytest.mark.parametrize("reason", [200, 399, 600, -1, True, None, 1.5, b"reset", object(), 10**30])
    def test_a_reason_that_is_none_is_refused_and_nothing_done(self, reason: Any) -> None:
        """The result can be ended rightly afterwards."""
        fleet = Fleet()
        result = fleet.pick_at(0)
        with pytest.raises(ConfigurationError, match="neither a text nor an HTTP status from 400 to 599"):
            result.failed(reason)
        assert not result.released
        result.failed("reset")
        assert result.released

    @given(st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans()))
    def test_statuses_and_waits_of_any_kind_are_judged_or_passed_over(self, garbage: Any) -> None:
        """What a proxy reports is data."""
        for judge in (Outcome.of_status, Outcome.of_grpc_status):
            outcome = judge(garbage)
            assert outcome is None or outcome.kind in OutcomeKind
        outcome = Outcome.of_status(429, retry_after=garbage)
        assert outcome is not None
        assert outcome.retry_after is None or 0 <= outcome.retry_after <= 86_400

    def test_a_reason_is_cut(self) -> None:
        """Whoever writes a body there fills no memory with it."""
        fleet = Fleet()
        fleet.fail(0, reason="x" * 10**6)
        assert len(fleet.ejection().detail) == 100


class TestCost:
    def test_a_failure_takes_as_many_calls_in_a_large_fleet_and_in_a_storm(self) -> None:
        """100,000 a second are a matter of O(1)."""
        calls = []
        for size in (4, 200):
            fleet = Fleet(size)
            births = fleet.registry.snapshot().fleet.births
            outcome = Outcome.of_status(500)
            assert outcome is not None
            for round_ in range(2):
                made = 0

                def count(_frame: object, event: str, _argument: object) -> None:
                    nonlocal made
                    made += event == "call"

                sys.setprofile(count)
                try:
                    for number in range(2000):
                        fleet.health.report(number % size, births[number % size], outcome, fleet.clock(), "llama")
                finally:
                    sys.setprofile(None)
                calls.append(made / 2000)
                assert round_ < 2
        assert max(calls) <= 40
        assert len(fleet.health._outliers.ejections.changes) == 0

    @pytest.mark.parametrize("reason", [500, 429, "reset"])
    def test_an_endpoint_takes_500_bytes_at_most_whatever_is_reported(self, reason: str | int) -> None:
        """All are ejected, and nothing grows with the requests after the first."""
        size = 500
        rules = attrs.evolve(PLAIN, max_ejection_percent=100)
        fleet = Fleet(size, rules=rules)
        births, outcome = fleet.registry.snapshot().fleet.births, Outcome.of_reason(reason)
        # What the listener keeps is its own.
        fleet.unsubscribe()
        fleet.registry.health.report(0, births[0], outcome, 0.0)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for times in (6, 30):
                for slot in range(size):
                    for _ in range(times):
                        # Each has a text of its own, as from a gateway.
                        detail = f"{outcome.detail} {slot}"
                        fleet.health.report(slot, births[slot], attrs.evolve(outcome, detail=detail), 0.0)
                taken = tracemalloc.get_traced_memory()[0] - before
                assert taken / size <= 500
        finally:
            tracemalloc.stop()
        assert len(fleet.ejected()) == size

    def test_where_nothing_was_reported_a_snapshot_costs_nothing_more(self) -> None:
        """Nobody is asked what it awaits."""
        fleet = Fleet()
        asked = []

        class Asking:
            def awaited(self) -> tuple[list[int], list[int]]:
                asked.append(1)
                return [], []

        asking = Asking()
        fleet.health.watch(asking)
        fleet.registry.upsert_pod(attrs.evolve(fleet.pods[0], restarts=1))
        fleet.registry.publish()
        assert not asked
        fleet.serve(0)
        fleet.registry.publish()
        assert asked


def test_threads_that_do_everything_at_once_leave_nothing_behind() -> None:  # noqa: C901 - several things at once
    """Reports, picks, retries and publishing, by several threads on two pickers: no load is left, and none is lost."""
    fleet = Fleet(6)
    pickers = [fleet.picker, fleet.another_picker(most=2)]
    errors: list[BaseException] = []

    def retry(result: PickResult) -> None:
        with suppress(NoEndpointsError):
            while True:
                result = result.retry("reset")

    def start(result: PickResult) -> None:
        result.started()
        result.succeeded()

    def publish(result: PickResult) -> None:
        fleet.clock.advance(0.05)
        fleet.registry.publish()
        fleet.health.ejections()
        result.release()

    def restart(result: PickResult) -> None:
        fleet.registry.upsert_pod(attrs.evolve(fleet.pods[0], restarts=result.moves % 9))
        result.failed(429)

    ends: list[Callable[[PickResult], object]] = [
        retry,
        start,
        publish,
        restart,
        PickResult.cancelled,
        lambda result: result.failed(500),
    ]

    def work(seed: int) -> None:
        rng = Random(seed)
        try:
            for _ in range(400):
                rng.choice(ends)(rng.choice(pickers).pick(REQUEST))
        except BaseException as error:  # noqa: BLE001 - told by the test
            errors.append(error)

    threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert [picker.statistics().in_flight for picker in pickers] == [0, 0]
    assert len(fleet.ejected()) <= 6
