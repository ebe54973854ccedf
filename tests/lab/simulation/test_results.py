from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.lab.simulation import Distribution, SharedPrompts, simulate
from inferencepool.lab.simulation._results import spread
from inferencepool.plugins import default_profile


class TestDistribution:
    @given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
    def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(self, values: list[float]) -> None:
        """So many percent of the values are at most the percentile, and fewer are at most any smaller value."""
        distribution = Distribution.of(values)

        for percent in (1, 50, 90, 99, 100):
            value = distribution.percentile(percent)
            assert value in values
            assert 100 * sum(each <= value for each in values) >= percent * len(values)
            assert 100 * sum(each < value for each in values) < percent * len(values)
        assert (min(values), max(values)) == (distribution.percentile(0), distribution.percentile(100))
        assert distribution.mean == pytest.approx(sum(values) / len(values))

    def test_without_values_everything_is_0(self) -> None:
        """A distribution of nothing has a mean and percentiles of 0."""
        assert {"mean": 0.0, "p50": 0.0, "p90": 0.0, "p99": 0.0, "max": 0.0} == Distribution.of([]).to_dict()


class TestSpread:
    @pytest.mark.parametrize(
        ("values", "expected"), [([], 0.0), ([0.0, 0.0], 0.0), ([3.0, 3.0, 3.0], 0.0), ([1.0, 3.0], 0.5)]
    )
    def test_spread_is_deviation_by_mean(self, values: list[float], expected: float) -> None:
        """Equal values have no spread, and others their standard deviation as a share of the mean."""
        assert expected == spread(values)


def test_a_result_is_ready_for_json() -> None:
    """Everything that a result says is in its dict, which JSON can hold."""
    result = simulate(SharedPrompts().arrivals(rate=20, duration=10, seed=1), default_profile)
    document = json.loads(json.dumps(result.to_dict()))

    assert result.to_dict() == document
    assert {
        "profile", "requests", "completed", "rejected", "failed", "seconds", "hit_rate", "time_to_first_token",
        "end_to_end",
        "load_spread", "picks_spread", "longest_queue", "adapter_loads", "endpoints",
    } == set(document)  # fmt: skip
    assert [round(endpoint.hit_rate, 6) for endpoint in result.endpoints] == [
        endpoint["hit_rate"] for endpoint in document["endpoints"]
    ]
    assert document["hit_rate"] == pytest.approx(result.hit_blocks / result.prompt_blocks, abs=1e-6)
    assert max(endpoint.longest_queue for endpoint in result.endpoints) == document["longest_queue"]
