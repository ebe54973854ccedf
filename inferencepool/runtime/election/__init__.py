"""Leader election among replicas, over a Lease of the cluster."""

from inferencepool.runtime.election._election import LeaderElection, LeaseClient, elapsed, make_identity

__all__ = ["LeaderElection", "LeaseClient", "elapsed", "make_identity"]
