from __future__ import annotations

import pytest

from inferencepool.model import Candidates, Endpoint, EndpointMetrics, Fleet, Snapshot, to_endpoint_set
from tests.strategies.selection import fleet_of

FLEET = fleet_of(("10.0.0.1", 80), None, ("10.0.0.1", 81), ("fd00::1", 80), None)
METRICS = tuple(EndpointMetrics(waiting_queue_size=slot) for slot in range(5))
SNAPSHOT = Snapshot(
    generation=3,
    fleet=FLEET,
    metrics=METRICS,
    waiting_queue_size=[0, 1, 2, 3, 4],
    running_requests=[10, 11, 12, 13, 14],
    kv_cache_usage=[0.0, 0.1, 0.2, 0.3, 0.4],
)


class TestFleet:
    def test_by_destination(self) -> None:
        """Endpoints are found by address with port and by bare address; IPv6 has brackets with a port only."""
        assert {
            "10.0.0.1:80": to_endpoint_set([0]),
            "10.0.0.1:81": to_endpoint_set([2]),
            "10.0.0.1": to_endpoint_set([0, 2]),
            "[fd00::1]:80": to_endpoint_set([3]),
            "fd00::1": to_endpoint_set([3]),
        } == FLEET.by_destination

    def test_by_id(self) -> None:
        """Endpoints are found by id."""
        assert {"default/pod-0-rank-0": 0, "default/pod-2-rank-0": 2, "default/pod-3-rank-0": 3} == FLEET.by_id

    def test_slots(self) -> None:
        """Slots in use are listed; without holes they are a range."""
        assert (0, 2, 3) == FLEET.slots
        assert range(1) == fleet_of(("10.0.0.1", 80)).slots
        assert range(0) == Fleet().slots

    def test_free_slot(self) -> None:
        """A free slot holds no endpoint."""
        with pytest.raises(LookupError, match="slot 1 is free"):
            FLEET.at(1)

    def test_repr(self) -> None:
        """Fleets and snapshots are shown by their size."""
        assert "<Fleet of 3>" == repr(FLEET)
        assert "<Snapshot 3 of 3 endpoints>" == repr(SNAPSHOT)
        assert "<Candidates: 2 of 3 endpoints>" == repr(Candidates(SNAPSHOT, (0, 3)))


class TestCandidates:
    @pytest.mark.parametrize("slots", [(), (2,), (0, 3), (3, 0), (0, 2, 3), range(2, 4), range(4, -1, -1), range(5)])
    def test_columns(self, slots: tuple[int, ...] | range) -> None:
        """A column has the values of the candidates, in their order, whatever lies between."""
        candidates = Candidates(SNAPSHOT, slots, [7, 8, 9, 10, 11])

        assert [*slots] == list(candidates.waiting_queue_size)
        assert [slot + 10 for slot in slots] == list(candidates.running_requests)
        assert [slot / 10 for slot in slots] == pytest.approx(list(candidates.kv_cache_usage))
        assert [slot + 7 for slot in slots] == list(candidates.pending)
        assert [0] * len(slots) == list(Candidates(SNAPSHOT, slots).pending)

    def test_sequence(self) -> None:
        """Candidates are a sequence; one of a slot is the same object each time."""
        candidates = Candidates(SNAPSHOT, FLEET.slots)

        assert [0, 2, 3] == [candidate.slot for candidate in candidates]
        assert [METRICS[0], METRICS[2], METRICS[3]] == [candidate.metrics for candidate in candidates]
        assert candidates[1] is SNAPSHOT.candidate(2)
        assert [candidates[1], candidates[2]] == candidates[1:]
        assert candidates[-1].endpoint is FLEET.endpoints[3]
        assert 3 == len(candidates)
        assert candidates[0] in candidates


def test_endpoint() -> None:
    """An endpoint is known by pod and rank, and reached by address and port."""
    endpoint = Endpoint(namespace="models", pod_name="pod-1", address="fd00::1", port=8000, rank=2)

    assert "models/pod-1-rank-2 ([fd00::1]:8000)" == str(endpoint)
