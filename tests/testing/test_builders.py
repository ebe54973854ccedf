from __future__ import annotations

import pytest

from inferencepool.errors import ConfigurationError, InvalidMetricsError
from inferencepool.model import EndpointMetrics, LabelSelector, Pod, TargetPort
from inferencepool.selection import expand, is_member
from inferencepool.testing import make_endpoint, make_pod, make_pool, make_snapshot


class TestMakeEndpoint:
    def test_defaults(self) -> None:
        """Without arguments it is the first port of the first pod."""
        endpoint = make_endpoint()

        assert ("default/pod-0-rank-0", "10.0.0.1:8000", {}) == (endpoint.id, endpoint.destination, endpoint.labels)

    def test_takes_every_field(self) -> None:
        """What is given is what it has."""
        endpoint = make_endpoint("a", namespace="n", address="fd00::1", port=9000, rank=2, labels={"zone": "x"})

        assert "n/a-rank-2 ([fd00::1]:9000)" == str(endpoint)
        assert {"zone": "x"} == endpoint.labels


class TestMakeSnapshot:
    def test_columns_agree_with_metrics(self) -> None:
        """Each column holds the metrics' field of each slot, in the order given."""
        snapshot = make_snapshot(
            {
                "a": {"waiting_queue_size": 3, "observed_at": 4.5},
                "b": EndpointMetrics(running_requests=2, kv_cache_usage=0.5),
            },
            generation=7,
        )

        assert [3, 0] == snapshot.waiting_queue_size
        assert [0, 2] == snapshot.running_requests
        assert [0.0, 0.5] == snapshot.kv_cache_usage
        assert [4.5, float("-inf")] == snapshot.observed_at
        assert 7 == snapshot.generation
        assert EndpointMetrics(running_requests=2, kv_cache_usage=0.5) == snapshot.candidate(1).metrics

    def test_lora_sets_agree_with_metrics(self) -> None:
        """Who runs, awaits or has room for an adapter is told from the metrics."""
        snapshot = make_snapshot(
            {
                "a": {"active_models": ["chat"], "max_active_models": 2},
                "b": {"active_models": ["chat"], "waiting_models": ["sql"], "max_active_models": 2},
                "c": {},
            }
        )

        assert {"chat": 0b011} == snapshot.lora_active
        assert {"sql": 0b010} == snapshot.lora_waiting
        assert 0b001 == snapshot.lora_room

    def test_names_get_addresses_of_their_own(self) -> None:
        """A fleet made from a number has as many endpoints, each with its own name and address."""
        snapshot = make_snapshot(300)

        assert 300 == len(snapshot) == len(snapshot.fleet.by_id)
        assert 1 << 299 == snapshot.fleet.by_destination["10.0.1.44:8000"]
        assert "pod-299" == snapshot.fleet.at(299).pod_name

    def test_takes_endpoints(self) -> None:
        """An endpoint stays as it is."""
        endpoint = make_endpoint("a", port=9000)

        assert endpoint is make_snapshot({endpoint: {}}).fleet.at(0)

    def test_may_be_empty(self) -> None:
        """No endpoints are a fleet, too."""
        assert 0 == len(make_snapshot(0)) == len(make_snapshot({}))

    def test_refuses_a_negative_number(self) -> None:
        """There is no fleet of fewer than none."""
        with pytest.raises(ConfigurationError, match="loads: -1 is not a number of endpoints"):
            make_snapshot(-1)

    def test_refuses_the_same_endpoint_twice(self) -> None:
        """Ids tell endpoints apart."""
        with pytest.raises(ConfigurationError, match="two endpoints have the id default/a-rank-0"):
            make_snapshot({make_endpoint("a"): {}, make_endpoint("a", port=9000): {}})

    def test_refuses_impossible_metrics(self) -> None:
        """A misspelt field is reported, not ignored."""
        with pytest.raises(InvalidMetricsError, match="waiting_queue"):
            make_snapshot({"a": {"waiting_queue": 1}})


class TestMakePod:
    def test_defaults_are_a_member_of_the_default_pool(self) -> None:
        """A pod and a pool made without arguments go together."""
        assert is_member(make_pool(), make_pod("a"))
        assert ["10.0.0.1:8000"] == [endpoint.destination for endpoint in expand(make_pool(), make_pod("a"))]

    def test_takes_every_field(self) -> None:
        """What is given is what it has."""
        pod = make_pod("a", ip="fd00::1", labels={"l": "1"}, namespace="n", annotations={"x": "2"})

        assert ("n", "a") == pod.key
        assert ("fd00::1", ("fd00::1",)) == (pod.ip, pod.ips)
        assert ({"l": "1"}, {"x": "2"}) == (pod.labels, pod.annotations)
        assert pod.ready
        assert pod.deletion_timestamp is None

    @pytest.mark.parametrize(
        "pod", [make_pod("a", ready=False), make_pod("a", ip=None), make_pod("a", deleted=True)], ids=str
    )
    def test_may_be_no_member(self, pod: Pod) -> None:
        """A pod that is not ready, has no address or is being deleted is in no pool."""
        assert not is_member(make_pool(), pod)


class TestMakePool:
    @pytest.mark.parametrize("selector", [{"app": "x"}, "app=x", LabelSelector({"app": "x"})])
    def test_takes_selectors_in_every_shape(self, selector: LabelSelector | dict[str, str] | str) -> None:
        """Labels, text and a selector mean the same."""
        pool = make_pool("p", selector=selector, ports=[8000, 8001], namespace="n")

        assert ("n", "p") == (pool.namespace, pool.name)
        assert (TargetPort(8000), TargetPort(8001)) == pool.target_ports
        assert pool.selector.matches({"app": "x"})
        assert not pool.selector.matches({"app": "y"})
