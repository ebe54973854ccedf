from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from inferencepool.adapters.kubernetes import Lease, LeaseName
from inferencepool.adapters.kubernetes._lease import format_time, read_lease
from inferencepool.errors import ConfigurationError

NOON = datetime(2026, 1, 2, 12, 0, 0, 5, tzinfo=UTC)


def test_name_of_a_pool() -> None:
    """The lease of a pool is named as the reference picker names it."""
    name = LeaseName.of_pool("llama", "inference")

    assert "epp-inference-llama.llm-d.ai" == name.name
    assert "inference/epp-inference-llama.llm-d.ai" == str(name)
    assert "/apis/coordination.k8s.io/v1/namespaces/inference/leases/epp-inference-llama.llm-d.ai" == name.path


@pytest.mark.parametrize("pool", ["", "Llama", "a_b", "x" * 240])
def test_name_that_cannot_be(pool: str) -> None:
    """A name that no object can have is refused before anybody is asked."""
    with pytest.raises(ConfigurationError, match=r"lease: name: .* is not a DNS subdomain of at most 253 characters"):
        LeaseName.of_pool(pool, "default")


def test_times_have_six_digits() -> None:
    """Times are in UTC and have six digits behind the point, without which the API server cannot read them."""
    elsewhere = NOON.astimezone(timezone(timedelta(hours=2)))

    assert "2026-01-02T12:00:00.000005Z" == format_time(elsewhere)
    assert "2026-01-02T12:00:00.000000Z" == format_time(NOON.replace(microsecond=0))


def test_taking_and_renewing() -> None:
    """A lease that changes hands counts it and has a new time of taking; a renewal changes its time only."""
    made = Lease().taken("a", 15, NOON)
    assert (0, "a") == (made.transitions, made.holder)

    known = read_lease(_document(holderIdentity="a", leaseTransitions=3, acquireTime="then", renewTime="then"))
    renewed, taken = known.taken("a", 15, NOON), known.taken("b", 15, NOON)
    assert (3, "then", format_time(NOON)) == (renewed.transitions, renewed.acquired, renewed.renewed)
    assert (4, format_time(NOON)) == (taken.transitions, taken.acquired)


def test_releasing() -> None:
    """A released lease has no holder, and keeps its count and what others put into it."""
    known = read_lease(_document(holderIdentity="a", leaseTransitions=3, strategy="OldestEmulationVersion"))
    spec = known.released(NOON).to_dict(LeaseName("x", "y"))["spec"]

    assert ("", 1, 3) == (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"])
    assert "OldestEmulationVersion" == spec["strategy"]


def test_document_keeps_its_metadata() -> None:
    """What is written carries the version that was read, and all other metadata."""
    known = read_lease(_document(holderIdentity="a"))
    document = known.taken("b", 15, NOON).to_dict(LeaseName("x", "y"))

    assert {"name": "x", "namespace": "y", "resourceVersion": "7"} == document["metadata"]
    assert ("coordination.k8s.io/v1", "Lease") == (document["apiVersion"], document["kind"])


@pytest.mark.parametrize(
    "spec",
    [
        None,
        {},
        {"holderIdentity": 5, "leaseDurationSeconds": -1, "leaseTransitions": "x", "renewTime": 1.5},
        {"leaseDurationSeconds": True, "leaseTransitions": 1.5},
    ],
)
def test_fields_that_make_no_sense(spec: Any) -> None:
    """Fields of the wrong type count as absent: a lease is free to take then."""
    lease = read_lease(json.dumps({"metadata": {"resourceVersion": "7"}, "spec": spec}))

    assert ("", 0, 0, None) == (lease.holder, lease.duration, lease.transitions, lease.renewed)


@pytest.mark.parametrize("text", [b"", b"<html>", b"[]", b"null", b"{}", b'{"metadata": {}}', b'{"metadata": 1}'])
def test_no_lease(text: bytes) -> None:
    """An answer that is no lease is told as that."""
    with pytest.raises(ValueError, match=r"."):
        read_lease(text)


def _document(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x", "namespace": "y", "resourceVersion": "7"}, "spec": spec}
