from __future__ import annotations

import attrs
import pytest
from hypothesis import given

from inferencepool.errors import InvalidDocumentError
from inferencepool.model import InferencePool, LabelSelector, Pod, TargetPort
from inferencepool.selection import is_member, membership_issue
from tests.strategies.selection import ADDRESSES, BAD_ADDRESSES, pods, pools

POOL = InferencePool(
    name="llama", selector=LabelSelector(match_labels={"app": "llama"}), target_ports=(TargetPort(8000),)
)
POD = Pod(name="pod-1", labels={"app": "llama", "zone": "a"}, ip="10.0.0.1", ready=True)


@pytest.mark.parametrize("address", ADDRESSES)
def test_ready_pod_with_the_labels_is_a_member(address: str) -> None:
    """A ready pod in the pool's namespace whose labels match is a member, with IPv4 and with IPv6."""
    pod = attrs.evolve(POD, ip=address)

    assert is_member(POOL, pod)
    assert membership_issue(POOL, pod) is None


@pytest.mark.parametrize(
    ("pod", "issue"),
    [
        (attrs.evolve(POD, namespace="other"), "is in namespace other, the pool is in default"),
        (attrs.evolve(POD, labels={"app": "qwen"}), "labels do not match app=llama"),
        (attrs.evolve(POD, labels={}), "labels do not match app=llama"),
        (attrs.evolve(POD, ready=False), "not ready (condition Ready is not True)"),
        (
            attrs.evolve(POD, deletion_timestamp="2025-01-01T00:00:00Z"),
            "is being deleted since 2025-01-01T00:00:00Z",
        ),
        (attrs.evolve(POD, ip=None), "has no IP address"),
        (attrs.evolve(POD, phase="Failed"), "has ended (phase Failed)"),
        (attrs.evolve(POD, phase="Succeeded"), "has ended (phase Succeeded)"),
    ],
)
def test_every_rule_has_its_reason(pod: Pod, issue: str) -> None:
    """A pod that breaks one rule is no member, and the reason names that rule."""
    assert not is_member(POOL, pod)
    assert issue == membership_issue(POOL, pod)


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_pod_needs_a_usable_address(address: str) -> None:
    """A pod whose address is none is refused as such, so membership need not look."""
    with pytest.raises(InvalidDocumentError, match="IP address"):
        attrs.evolve(POD, ip=address)


def test_what_concerns_the_pool_comes_first() -> None:
    """Of several reasons the one that no change of the pod's state would lift is given."""
    pod = Pod(name="pod-1", namespace="other", ready=False)

    assert membership_issue(POOL, pod) == "is in namespace other, the pool is in default"
    assert membership_issue(POOL, attrs.evolve(pod, namespace="default")) == "labels do not match app=llama"


@given(pools(), pods())
def test_members_and_only_members_have_no_issue(pool: InferencePool, pod: Pod) -> None:
    """A pod is a member exactly if there is no reason why not."""
    assert is_member(pool, pod) == (membership_issue(pool, pod) is None)


@given(pools(), pods())
def test_reason_is_one_short_line(pool: InferencePool, pod: Pod) -> None:
    """A reason fits into a line of a table, whatever the pod holds."""
    issue = membership_issue(pool, pod) or "none"

    assert issue.isprintable()
    assert len(issue) < 100
