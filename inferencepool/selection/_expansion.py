"""Expansion: the endpoints of a pod, one for each active target port."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Final

from inferencepool.model import Endpoint, InferencePool, Pod
from inferencepool.selection._membership import member_address

__all__ = ["ACTIVE_PORTS_ANNOTATIONS", "active_ports", "expand"]

#: Annotations of a pod that list its active ports; the first one that is there counts.
ACTIVE_PORTS_ANNOTATIONS: Final = ("llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports")

# Bounded, because an annotation may hold more digits than int() accepts.
_LEADING_PORT = re.compile(r"\+?0*([1-9][0-9]{0,4})(?![0-9])", re.ASCII)


def active_ports(pool: InferencePool, pod: Pod) -> AbstractSet[int]:
    """
    Find the target ports of *pool* at which *pod* takes requests.

    The annotation ``llm-d.ai/active-ports`` lists them, separated by commas; without it the older
    ``inference.networking.k8s.io/active-ports`` does; without either all target ports are active. An annotation that
    is present but empty means none. As in the reference picker, the number at the start of an element counts
    (``8000abc`` is 8000), and an element that has none or names no target port is ignored.
    """
    targets = frozenset(target.number for target in pool.target_ports)
    current, legacy = ACTIVE_PORTS_ANNOTATIONS
    listed = pod.annotations.get(current)
    if listed is None:
        listed = pod.annotations.get(legacy)
    if listed is None:
        return targets
    matches = (_LEADING_PORT.match(element.strip()) for element in listed.split(","))
    return targets.intersection(int(match[1]) for match in matches if match)


def expand(pool: InferencePool, pod: Pod) -> tuple[Endpoint, ...]:
    """
    Expand *pod* into its endpoints: one for each active target port of *pool*, in the order of the ports.

    The rank of an endpoint is the index of its port in ``spec.targetPorts``, so it stays the same when other ports
    become active or inactive. Never raises.

    Returns:
        The endpoints, with the address in canonical spelling; none unless `is_member` holds.
    """
    address = member_address(pool, pod)
    if address is None:
        return ()
    active = active_ports(pool, pod)
    others = () if len(pod.ips) <= 1 else _other_addresses(pod, address)
    return tuple(
        Endpoint(
            namespace=pod.namespace,
            pod_name=pod.name,
            address=address,
            port=target.number,
            rank=rank,
            labels=pod.labels,
            node_address=pod.host_ip,
            other_addresses=others,
            pod_uid=pod.uid,
            restarts=pod.restarts,
        )
        for rank, target in enumerate(pool.target_ports)
        if target.number in active
    )


def _other_addresses(pod: Pod, address: str) -> tuple[str, ...]:
    return tuple(other for other in dict.fromkeys(pod.ips) if other != address)
