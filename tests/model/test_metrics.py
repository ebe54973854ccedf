from __future__ import annotations

from math import inf, nan
from typing import Any

import attrs
import pytest

from inferencepool.errors import InvalidMetricsError
from inferencepool.model import EndpointMetrics


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        *(
            (field, value, "is not a whole number from 0 to 2147483647")
            for field in ("waiting_queue_size", "running_requests", "max_active_models")
            for value in (-1, 1.0, True, "1", None)
        ),
        *(
            (field, value, "is not a whole number from 0 to 2147483647")
            for field in ("cache_block_size", "cache_num_blocks")
            for value in (-1, 1.5, False, "1")
        ),
        *(("kv_cache_usage", value, "is not a number from 0 to 1") for value in (-0.1, 1.1, nan, inf, True, "0", None)),
        *(("observed_at", value, "is not a finite number of seconds") for value in (nan, inf, -inf, True, "0")),
        *(
            (field, value, "is not a list of names")
            for field in ("active_models", "waiting_models")
            for value in ("lora", {"lora": 1}, 1, None)
        ),
        ("active_models", ["a", 1], "1 is not a string"),
        ("waiting_models", [None], "None is not a string"),
    ],
)
def test_impossible_values(field: str, value: Any, allowed: str) -> None:
    """An impossible value is refused, with the field, the value and what is allowed."""
    with pytest.raises(InvalidMetricsError) as caught:
        EndpointMetrics.from_dict({field: value})

    assert field in str(caught.value)
    assert allowed in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kv_cache_usage": 0},
        {"kv_cache_usage": 1},
        {"observed_at": -5},
        {"observed_at": 10**400},
        {"cache_block_size": None, "cache_num_blocks": 0},
        {"active_models": (name for name in ("a", "b"))},
    ],
)
def test_possible_values(fields: dict[str, Any]) -> None:
    """Values at the edges are taken."""
    assert isinstance(EndpointMetrics.from_dict(fields), EndpointMetrics)


def test_unknown_fields() -> None:
    """A name that is no field is refused, and the fields are told; what is derived is no field."""
    for name in ("queue", "knows_loras"):
        with pytest.raises(InvalidMetricsError, match=f"unknown metrics field '{name}'; allowed: waiting_queue_size"):
            EndpointMetrics.from_dict({name: 1})


@pytest.mark.parametrize(
    ("fields", "knows", "room"),
    [
        ({}, False, False),
        ({"max_active_models": 1}, True, True),
        ({"active_models": ["a"], "max_active_models": 1}, True, False),
        ({"active_models": ["a"], "waiting_models": ["b"], "max_active_models": 3}, True, True),
        ({"active_models": ["a"], "waiting_models": ["b"], "max_active_models": 2}, True, False),
        ({"waiting_models": ["a"]}, True, False),
    ],
)
def test_loras(fields: dict[str, Any], *, knows: bool, room: bool) -> None:
    """Adapters that run and that wait take room; any word about them counts as knowledge."""
    metrics = EndpointMetrics(**fields)

    assert (knows, room) == (metrics.knows_loras, metrics.has_room())


class TestWithLoad:
    def test_only_the_load_changes(self) -> None:
        """The rest is as it was, and the result equals metrics that are built anew."""
        metrics = EndpointMetrics(active_models=["a"], max_active_models=2, cache_block_size=16, cache_num_blocks=9)
        changed = metrics.with_load(1, 2, 0.5, 3.0)

        assert changed == attrs.evolve(
            metrics, waiting_queue_size=1, running_requests=2, kv_cache_usage=0.5, observed_at=3.0
        )
        assert (changed.knows_loras, hash(changed)) == (True, hash(attrs.evolve(changed)))
        assert metrics.with_load(0, 0, 0, None) == metrics

    @pytest.mark.parametrize("load", [(-1, 0, 0.0, 0.0), (0, 2**31, 0.0, 0.0), (0, 0, 1.5, 0.0), (0, 0, 0.0, nan)])
    def test_refused(self, load: tuple[int, int, float, float]) -> None:
        """What cannot be is refused as when metrics are built."""
        with pytest.raises(InvalidMetricsError, match="metrics field"):
            EndpointMetrics().with_load(*load)
