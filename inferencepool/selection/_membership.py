"""Membership: which pods belong to a pool."""

from __future__ import annotations

from inferencepool.model import InferencePool, Pod

__all__ = ["has_ended", "is_member", "member_address", "membership_issue"]

# Phases in which all containers of a pod have ended for good; its conditions may be those of before.
_ENDED = ("Failed", "Succeeded")


def has_ended(pod: Pod) -> bool:
    """Tell whether *pod* will never serve again: it is being deleted, or all its containers have ended for good."""
    return pod.deletion_timestamp is not None or pod.phase in _ENDED


def is_member(pool: InferencePool, pod: Pod) -> bool:
    """
    Tell whether *pod* serves requests of *pool*.

    It does if it is in the pool's namespace, its labels match the selector, its first ``Ready`` condition is True, it
    is not being deleted, has not ended (phase ``Failed`` or ``Succeeded``) and has an IP address. The reference picker
    leaves out the last two rules and registers such pods; nothing could be sent there.
    """
    return member_address(pool, pod) is not None


def member_address(pool: InferencePool, pod: Pod) -> str | None:
    """Give the address of *pod* if it is a member of *pool*, else None."""
    if (
        pod.ready
        and pod.ip
        and not has_ended(pod)
        and pod.namespace == pool.namespace
        and pool.selector.matches(pod.labels)
    ):
        return pod.ip
    return None


def membership_issue(pool: InferencePool, pod: Pod) -> str | None:
    """
    Say why *pod* does not serve requests of *pool*.

    Returns:
        The first rule of `is_member` that *pod* breaks, such as ``labels do not match app=llama``; what concerns the
        pool comes before what concerns the pod's state. None if the pod is a member.
    """
    if pod.namespace != pool.namespace:
        return f"is in namespace {pod.namespace}, the pool is in {pool.namespace}"
    if not pool.selector.matches(pod.labels):
        return f"labels do not match {pool.selector}"
    if pod.deletion_timestamp is not None:
        return f"is being deleted since {pod.deletion_timestamp}"
    if pod.phase in _ENDED:
        return f"has ended (phase {pod.phase})"
    if not pod.ready:
        return "not ready (condition Ready is not True)"
    return None if pod.ip else "has no IP address"
