"""A Kubernetes API server's news of a pool, without any I/O: what to ask for, and what the answers mean."""

from inferencepool.adapters.kubernetes._deltas import Deleted, Delta, Foreign, Listed, Unreadable, Upserted
from inferencepool.adapters.kubernetes._effects import Effect, ObjectivesChanged, RewritesChanged
from inferencepool.adapters.kubernetes._elector import Create, ElectionOptions, ElectionStep, LeaderElector, Replace
from inferencepool.adapters.kubernetes._feed import Failure, Feed, Get, Step, Stream, Wait
from inferencepool.adapters.kubernetes._lease import Lease, LeaseName
from inferencepool.adapters.kubernetes._named_pool import NamedPool
from inferencepool.adapters.kubernetes._options import ReflectorOptions
from inferencepool.adapters.kubernetes._pods import read_pod
from inferencepool.adapters.kubernetes._pool_search import PoolMissing
from inferencepool.adapters.kubernetes._pool_view import PoolView
from inferencepool.adapters.kubernetes._reflector import Reflector
from inferencepool.adapters.kubernetes._resources import (
    LEGACY_POOLS,
    OBJECTIVES,
    PODS,
    POOLS,
    REWRITES,
    ApiResource,
)
from inferencepool.adapters.kubernetes._served import Served, ServedResources

__all__ = [
    "LEGACY_POOLS",
    "OBJECTIVES",
    "PODS",
    "POOLS",
    "REWRITES",
    "ApiResource",
    "Create",
    "Deleted",
    "Delta",
    "Effect",
    "ElectionOptions",
    "ElectionStep",
    "Failure",
    "Feed",
    "Foreign",
    "Get",
    "LeaderElector",
    "Lease",
    "LeaseName",
    "Listed",
    "NamedPool",
    "ObjectivesChanged",
    "PoolMissing",
    "PoolView",
    "Reflector",
    "ReflectorOptions",
    "Replace",
    "RewritesChanged",
    "Served",
    "ServedResources",
    "Step",
    "Stream",
    "Unreadable",
    "Upserted",
    "Wait",
    "read_pod",
]
