"""Pods that a pool's selector matches, and that give no endpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final, final

from inferencepool.model import InferencePool, Pod
from inferencepool.runtime.logs import log_event
from inferencepool.selection import active_ports, membership_issue

__all__ = ["MOST_REMEMBERED", "UnusedPods"]

_LOG = logging.getLogger("inferencepool.runtime.kubernetes")
#: Pods that are remembered.
MOST_REMEMBERED: Final = 1000


@final
class UnusedPods:
    """
    Remembers which pods give no endpoint, and why, and logs each reason once. One task group at a time may use it.

    That a pod is being deleted is no news for the log: all pods are, at their end.

    Attributes:
        reasons: Why, by the name of the pod; of 1,000 pods at most.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.reasons: dict[str, str] = {}

    def judge(self, pool: InferencePool | None, pods: Iterable[Pod]) -> None:
        """Look at *pods*, which are new or changed."""
        for pod in pods:
            reason = _why_unused(pool, pod)
            if reason is None:
                self.reasons.pop(pod.name, None)
            elif self.reasons.get(pod.name) != reason and (
                pod.name in self.reasons or len(self.reasons) < MOST_REMEMBERED
            ):
                self.reasons[pod.name] = reason
                if pod.deletion_timestamp is None:
                    log_event(_LOG, logging.INFO, "pod without endpoint", name=pod.name, reason=reason)

    def keep(self, names: Iterable[str]) -> None:
        """Forget all pods but those called *names*."""
        kept = {*names}
        self.reasons = {name: reason for name, reason in self.reasons.items() if name in kept}

    def forget(self, name: str) -> None:
        """Forget a pod, which is gone."""
        self.reasons.pop(name, None)


def _why_unused(pool: InferencePool | None, pod: Pod) -> str | None:
    if pool is None:
        return None
    issue = membership_issue(pool, pod)
    if issue is None and not active_ports(pool, pod):
        ports = ", ".join(str(port.number) for port in pool.target_ports)
        issue = f"its annotation of active ports names none of the pool's ({ports})"
    return issue
