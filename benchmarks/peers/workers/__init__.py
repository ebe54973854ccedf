"""One worker for each peer: a process in the peer's own environment, which knows the peer's API and nothing else."""
