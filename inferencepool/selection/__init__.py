"""Which endpoints a pool has, and which of them a request may go to. Pure functions."""

from inferencepool.selection._expansion import ACTIVE_PORTS_ANNOTATIONS, active_ports, expand
from inferencepool.selection._membership import is_member, membership_issue
from inferencepool.selection._rewriting import ModelRewrites, RewriteDecision
from inferencepool.selection._subset import narrow, parse_subset

__all__ = [
    "ACTIVE_PORTS_ANNOTATIONS",
    "ModelRewrites",
    "RewriteDecision",
    "active_ports",
    "expand",
    "is_member",
    "membership_issue",
    "narrow",
    "parse_subset",
]
