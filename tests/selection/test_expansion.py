from __future__ import annotations

import attrs
import pytest
from hypothesis import given

from inferencepool.model import Endpoint, InferencePool, LabelSelector, Pod, TargetPort
from inferencepool.selection import active_ports, expand, is_member
from tests.strategies.selection import pods, pools

CURRENT = "llm-d.ai/active-ports"
LEGACY = "inference.networking.k8s.io/active-ports"


def pool_of(*ports: int) -> InferencePool:
    """Build the pool `llama` with *ports* as its target ports."""
    return InferencePool(
        name="llama",
        selector=LabelSelector(match_labels={"app": "llama"}),
        target_ports=tuple(TargetPort(port) for port in ports),
    )


def pod_of(ip: str | None = "10.0.0.1", **annotations: str) -> Pod:
    """Build a ready pod; *annotations* are called `current` and `legacy`."""
    keys = {"current": CURRENT, "legacy": LEGACY}
    return Pod(
        name="pod-1",
        uid="7c1c",
        labels={"app": "llama"},
        annotations={keys[key]: value for key, value in annotations.items()},
        ip=ip,
        host_ip="192.168.0.1",
        ready=True,
    )


POOL = pool_of(8000, 8001, 8002)


class TestExpand:
    def test_one_endpoint_per_target_port(self) -> None:
        """Without the annotation a pod has one endpoint per target port, ranked by position, with the pod's facts."""
        pod = pod_of()
        expected = tuple(
            Endpoint(
                namespace="default",
                pod_name="pod-1",
                address="10.0.0.1",
                port=port,
                rank=rank,
                labels={"app": "llama"},
                node_address="192.168.0.1",
                pod_uid="7c1c",
            )
            for rank, port in enumerate([8000, 8001, 8002])
        )

        assert expected == expand(POOL, pod)

    def test_single_port(self) -> None:
        """The only port of a pool has rank 0 in its id."""
        assert [endpoint.id for endpoint in expand(pool_of(8000), pod_of())] == ["default/pod-1-rank-0"]

    def test_rank_is_the_position_in_the_pool(self) -> None:
        """An inactive port leaves a gap in the ranks: the others keep theirs."""
        found = expand(POOL, pod_of(current="8000,8002"))

        assert [(endpoint.rank, endpoint.port) for endpoint in found] == [(0, 8000), (2, 8002)]

    def test_order_of_the_annotation_does_not_matter(self) -> None:
        """Endpoints come in the order of the target ports, which need not be ascending."""
        found = expand(pool_of(9000, 8000), pod_of(current="8000,9000"))

        assert [endpoint.port for endpoint in found] == [9000, 8000]

    def test_ports_shrink_and_swap(self) -> None:
        """Fewer target ports give fewer ranks; swapped ones keep the ids and swap the ports."""
        before, swapped = expand(pool_of(8000, 8001), pod_of()), expand(pool_of(8001, 8000), pod_of())

        assert expand(pool_of(8000), pod_of()) == before[:1]
        assert [endpoint.id for endpoint in before] == [endpoint.id for endpoint in swapped]
        assert [endpoint.port for endpoint in swapped] == [8001, 8000]

    @pytest.mark.parametrize(
        ("ip", "destination"),
        [
            ("10.0.0.1", "10.0.0.1:8000"),
            ("fd00::1", "[fd00::1]:8000"),
            ("FD00:0::1", "[fd00::1]:8000"),
            ("::ffff:10.0.0.1", "[::ffff:10.0.0.1]:8000"),
        ],
    )
    def test_destination(self, ip: str, destination: str) -> None:
        """The destination has the address in its canonical spelling, IPv6 in brackets."""
        assert [destination] == [endpoint.destination for endpoint in expand(pool_of(8000), pod_of(ip))]

    @pytest.mark.parametrize("ip", [None, ""])
    def test_no_address(self, ip: str | None) -> None:
        """A pod without an address has no endpoints."""
        assert expand(POOL, pod_of(ip)) == ()

    @pytest.mark.parametrize(
        "pod",
        [
            attrs.evolve(pod_of(), ready=False),
            attrs.evolve(pod_of(), deletion_timestamp="2025-01-01T00:00:00Z"),
            attrs.evolve(pod_of(), namespace="other"),
            attrs.evolve(pod_of(), labels={"app": "qwen"}),
        ],
    )
    def test_no_member(self, pod: Pod) -> None:
        """A pod that is no member of the pool has no endpoints there."""
        assert expand(POOL, pod) == ()


class TestActivePorts:
    @pytest.mark.parametrize("key", ["current", "legacy"])
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("", set()),
            (" ", set()),
            (",", set()),
            ("8000", {8000}),
            ("8000, 8001 , 8002", {8000, 8001, 8002}),
            ("8000,invalid,8002", {8000, 8002}),
            ("8000,-1,8002", {8000, 8002}),
            ("8000,9000", {8000}),
            ("8000,8000, 8000", {8000}),
            ("8000abc", {8000}),
            ("8000.5;8001", {8000}),
            ("8000 8001", {8000}),
            ("+8000", {8000}),
            ("08000", {8000}),
            ("80001", set()),
            ("0,-8000,abc8000", set()),
            ("\u0668\u0660\u0660\u0660", set()),
            ("8001," + "8" * 5000, {8001}),
        ],
    )
    def test_annotation(self, key: str, value: str, expected: set[int]) -> None:
        """The annotation, by either name, is read as the reference reads it."""
        assert expected == active_ports(POOL, pod_of(**{key: value}))

    def test_absent(self) -> None:
        """Without the annotation all target ports are active."""
        assert active_ports(POOL, pod_of()) == {8000, 8001, 8002}

    @pytest.mark.parametrize(("current", "expected"), [("8001", {8001}), ("", set()), ("invalid", set())])
    def test_current_name_wins(self, current: str, expected: set[int]) -> None:
        """With both annotations the older one is not looked at, even if the other is empty."""
        assert expected == active_ports(POOL, pod_of(current=current, legacy="8000"))


class TestLaws:
    @given(pools(), pods())
    def test_consistent_with_membership(self, pool: InferencePool, pod: Pod) -> None:
        """A pod has endpoints exactly if it is a member with an active port: one for each."""
        expected = active_ports(pool, pod) if is_member(pool, pod) else set()
        found = [endpoint.port for endpoint in expand(pool, pod)]

        assert expected == set(found)
        assert len(expected) == len(found)

    @given(pools(), pods())
    def test_ports_and_ranks(self, pool: InferencePool, pod: Pod) -> None:
        """Ids and destinations are unique, ranks ascend, and each rank finds its port in the pool."""
        found = expand(pool, pod)
        ranks = [endpoint.rank for endpoint in found if endpoint.rank is not None]

        assert len(found) == len(ranks)
        assert ranks == sorted(set(ranks))
        assert len({endpoint.id for endpoint in found}) == len(found)
        assert len({endpoint.destination for endpoint in found}) == len(found)
        assert [pool.target_ports[rank].number for rank in ranks] == [endpoint.port for endpoint in found]

    @given(pools(), pods())
    def test_annotation_only_restricts(self, pool: InferencePool, pod: Pod) -> None:
        """Whatever the annotations say, the endpoints are among those of the pod without annotations."""
        assert set(expand(pool, pod)) <= set(expand(pool, attrs.evolve(pod, annotations={})))
