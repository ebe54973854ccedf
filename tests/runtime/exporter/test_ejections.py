"""Which endpoints are ejected, as the metrics tell it."""

from __future__ import annotations

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.model import EjectionReason
from inferencepool.runtime.exporter import EjectionMetrics
from tests.registry.ejecting import Fleet
from tests.runtime.exporter.reading import shown, value_of

EJECTED = "inferencepool_ejected_endpoints"
TOTAL = "inferencepool_endpoint_ejections_total"


class TestEjections:
    def test_nobody(self) -> None:
        """Each reason is there as 0, so that rates are right from the first ejection on."""
        values = shown(EjectionMetrics(Fleet(2).registry))
        for name in (EJECTED, TOTAL):
            assert dict.fromkeys(EjectionReason, 0) == {
                dict(labels)["reason"]: value for (found, labels), value in values.items() if found == name
            }

    def test_one_and_back(self) -> None:
        """The gauge follows the ejection, the counter keeps it."""
        fleet = Fleet(4)
        fleet.fail(1, 5)
        values = shown(EjectionMetrics(fleet.registry))
        labels = {"name": "pool", "reason": "consecutive-5xx"}
        assert (1, 1) == (value_of(values, EJECTED, **labels), value_of(values, TOTAL, **labels))
        fleet.clock.advance(3600)
        fleet.pick_at(1).succeeded()
        values = shown(EjectionMetrics(fleet.registry))
        assert (0, 1) == (value_of(values, EJECTED, **labels), value_of(values, TOTAL, **labels))

    @pytest.mark.parametrize(("most", "told"), [(4, 4), (3, 0), (0, 0)])
    def test_by_endpoint(self, most: int, told: int) -> None:
        """Each endpoint is told of where there are not too many, 1 where it is ejected."""
        fleet = Fleet(4)
        fleet.fail(1, 5)
        values = shown(EjectionMetrics(fleet.registry, most_endpoints=most))
        found = {
            dict(labels)["model_server_endpoint"]: value
            for (name, labels), value in values.items()
            if name == "inferencepool_endpoint_ejected"
        }
        assert told == len(found)
        assert found == {} or {"p1-rank-0"} == {name for name, value in found.items() if value == 1}

    def test_for_one_model(self) -> None:
        """An endpoint without a model is counted by that reason, and is not ejected as a whole."""
        fleet = Fleet(4)
        fleet.pick_at(0).succeeded()
        fleet.fail(1, 5, 404)
        values = shown(EjectionMetrics(fleet.registry))
        assert 1 == value_of(values, EJECTED, name="pool", reason="model-not-found")
        by_endpoint = {"name": "pool", "model_server_endpoint": "p1-rank-0"}
        assert 0 == value_of(values, "inferencepool_endpoint_ejected", **by_endpoint)

    @pytest.mark.parametrize("most", [-1, 1.5, True])
    def test_a_limit_that_is_not_allowed(self, most: int) -> None:
        """The error names it."""
        with pytest.raises(ConfigurationError, match=r"metrics: most_endpoints: .* is not a whole number of 0 or more"):
            EjectionMetrics(Fleet(1).registry, most_endpoints=most)

    def test_stalled_where_nobody_picks(self) -> None:
        """Whoever reads the metrics finds an endpoint stalled that nobody else looked at since."""
        fleet = Fleet(4)
        held = fleet.pick_at(1)
        metrics = EjectionMetrics(fleet.registry)
        for waiting in [[fleet.pick_at(number) for number in (0, 2, 3)] for _ in range(12)]:
            fleet.clock.advance(1)
            for each in waiting:
                each.succeeded()
            values = shown(metrics)
        assert 1 == value_of(values, EJECTED, name="pool", reason="stalled")
        held.cancelled()
